"""Checkpoints of both networks; weights of a single detector fill both."""

import os
import pickle

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..errors import ConfigError, one_line

__all__ = ["SoftTeacherCheckpointer", "check_pickle"]

ARRAY_MODULES = ("numpy", "core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric")
ARRAY_NAMES = ("dtype", "ndarray", "_reconstruct", "scalar", "_frombuffer")
SAFE_GLOBALS = {("collections", "OrderedDict"), ("_codecs", "encode")} | {
    (module if module == "numpy" else f"numpy.{module}", name)
    for module in ARRAY_MODULES
    for name in ARRAY_NAMES
}


class SoftTeacherCheckpointer(DetectionCheckpointer):
    """DetectionCheckpointer of a SoftTeacher.

    Besides its own checkpoints it loads any Detectron2 detector and any ImageNet backbone: weights
    without the prefix ``student.`` go into the student, and the teacher becomes its copy.
    """

    def __init__(self, model, save_dir="", *, complete: bool = False, **kwargs):
        """
        Args:
            complete: every tensor of the networks must come from the file, as evaluation wants
                it. Otherwise a detector's backbone is enough.
            kwargs: of DetectionCheckpointer.
        """
        super().__init__(model, save_dir, **kwargs)
        self.complete = complete

    def load(self, path, *args, **kwargs):
        """As the base class.

        Raises:
            ConfigError: for a file that is missing, is not a checkpoint, holds another model, or
                would run code.
        """
        if not path and self.complete:
            raise ConfigError("MODEL.WEIGHTS is empty: name the checkpoint to evaluate")
        self._check_exists(path)
        try:
            return super().load(path, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None  # else a refused file spoils the next load

    def _check_exists(self, path):
        file = (path or "").split("?")[0]
        if not file or os.path.isfile(file):
            return
        if "://" not in file:
            raise ConfigError(f"MODEL.WEIGHTS '{path}' does not exist")
        try:
            found = os.path.isfile(self.path_manager.get_local_path(file))
        except Exception as error:  # every scheme fails in its own way
            raise ConfigError(f"MODEL.WEIGHTS '{path}' cannot be had: {one_line(error)}") from error
        if not found:
            raise ConfigError(f"MODEL.WEIGHTS '{path}' does not exist")

    def _load_file(self, filename):
        try:
            if filename.endswith(".pkl"):
                check_pickle(filename)
            checkpoint = super()._load_file(filename)
        except ConfigError:
            raise
        except Exception as error:  # readers raise many kinds for a file that is not theirs
            reason = one_line(error)
            raise ConfigError(f"MODEL.WEIGHTS '{filename}' cannot be read: {reason}") from error
        if not _is_state_dict(checkpoint["model"]):
            raise ConfigError(f"MODEL.WEIGHTS '{filename}' holds no weights")
        return checkpoint

    def _torch_load(self, f):
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint):
        if any(key.startswith("student.") for key in checkpoint["model"]):
            incompatible = super()._load_model(checkpoint)
            _check_filled(self.model, incompatible, every_tensor=True)
        else:
            incompatible = DetectionCheckpointer(self.model.student)._load_model(checkpoint)
            _check_filled(self.model.student, incompatible, every_tensor=self.complete)
            self.model.copy_student_to_teacher()
        return incompatible


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds containers and NumPy arrays and refuses everything else."""

    def find_class(self, module, name):
        if (module, name) not in SAFE_GLOBALS:
            raise ConfigError(f"it would run {module}.{name} when loaded; only arrays are accepted")
        return super().find_class(module, name)


def check_pickle(filename: str) -> None:
    """Raises ConfigError if unpickling the file would do more than build arrays.

    Detectron2 unpickles .pkl weights without limits, and a pickle can run any code.
    """
    with open(filename, "rb") as f:
        try:
            _ArraysOnly(f, encoding="latin1").load()
        except ConfigError as error:
            raise ConfigError(f"MODEL.WEIGHTS '{filename}': {error}") from None


def _check_filled(network, incompatible, *, every_tensor: bool) -> None:
    """Raises ConfigError if the file was made for another network.

    Some heads may be missing, or differ in the number of classes; the backbone may not.
    """
    if every_tensor:
        names = list(network.state_dict())
    else:  # BN's own counters are never reported as missing, parameters are
        names = [n for n, _ in network.named_parameters() if n.startswith("backbone.")]
    mismatched = {key for key, *_ in incompatible.incorrect_shapes}
    missing = set(incompatible.missing_keys) - mismatched
    bad = [n for n in names if n in mismatched]
    absent = [n for n in names if n in missing]
    nothing = len(bad) + len(absent) == len(names)
    if bad or (absent and every_tensor) or nothing:
        raise ConfigError(
            f"MODEL.WEIGHTS holds another model: {len(bad)} tensors differ in shape and "
            f"{len(absent)} are missing, first '{(bad or absent)[0]}'"
        )


def _is_state_dict(model) -> bool:
    return (
        isinstance(model, dict)
        and bool(model)
        and all(
            isinstance(k, str) and isinstance(v, (torch.Tensor, np.ndarray))
            for k, v in model.items()
        )
    )
