"""Checkpoints of both networks; weights of a single detector fill both."""

import logging
import os
import pickle
from typing import List, Optional

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..atomic import AtomicPathManager
from ..errors import ConfigError, one_line
from .identity import RunIdentity
from .saving import BEST, numbered_checkpoints

__all__ = ["BrokenCheckpoint", "SoftTeacherCheckpointer", "check_pickle"]

logger = logging.getLogger(__name__)

ARRAY_MODULES = ("numpy", "core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric")
ARRAY_NAMES = ("dtype", "ndarray", "_reconstruct", "scalar", "_frombuffer")
SAFE_GLOBALS = {("collections", "OrderedDict"), ("_codecs", "encode")} | {
    (module if module == "numpy" else f"numpy.{module}", name)
    for module in ARRAY_MODULES
    for name in ARRAY_NAMES
}


class BrokenCheckpoint(ConfigError):
    """A file of weights that cannot be read."""


class SoftTeacherCheckpointer(DetectionCheckpointer):
    """DetectionCheckpointer of a SoftTeacher.

    Besides its own checkpoints it loads any Detectron2 detector and any ImageNet backbone: weights
    without the prefix ``student.`` go into the student, and the teacher becomes its copy. Files
    are written atomically, and a broken one is passed over when a training is resumed.
    """

    def __init__(
        self,
        model,
        save_dir="",
        *,
        complete: bool = False,
        identity: Optional[RunIdentity] = None,
        **kwargs,
    ):
        """
        Args:
            complete: every tensor of the networks must come from the file, as evaluation wants
                it. Otherwise a detector's backbone is enough.
            identity: of the training, saved, and compared before a resume.
            kwargs: of DetectionCheckpointer.
        """
        super().__init__(model, save_dir, **kwargs)
        self.path_manager = AtomicPathManager(self.path_manager)
        self.complete = complete
        self.identity = identity
        if identity is not None:
            self.add_checkpointable("identity", identity)
        self._resuming = False

    def has_checkpoint(self) -> bool:
        """Whether there is a training in ``save_dir`` that can be gone on with."""
        return bool(self._resumable())

    def resume_or_load(self, path, *, resume: bool = True):
        """As the base class; of several checkpoints, the last that can be read is resumed.

        Raises:
            ConfigError: see :meth:`load`; also if another training would be resumed.
        """
        candidates = self._resumable() if resume else []
        if resume and not candidates:
            logger.warning("--resume finds no checkpoint in %s: starts anew", self.save_dir)
        if not candidates:
            return self.load(path, checkpointables=[])
        self._resuming = True
        try:
            for candidate in candidates[:-1]:
                try:
                    return self.load(candidate)
                except BrokenCheckpoint as error:
                    logger.warning("%s; going back to the checkpoint before", error)
            return self.load(candidates[-1])
        finally:
            self._resuming = False

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Names the checkpoint to resume from; the best one is not for that."""
        if last_filename_basename != f"{BEST}.pth":
            super().tag_last_checkpoint(last_filename_basename)

    def _resumable(self) -> List[str]:
        """Checkpoints of a training, the one to try first at the front."""
        tagged = [self.get_checkpoint_file()] if super().has_checkpoint() else []
        tagged = [path for path in tagged if os.path.isfile(path)]
        others = reversed(numbered_checkpoints(self.save_dir))
        return tagged + [path for path in others if path not in tagged]

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
            raise BrokenCheckpoint(
                f"MODEL.WEIGHTS '{filename}' cannot be read: {reason}"
            ) from error
        if not _is_state_dict(checkpoint["model"]):
            raise ConfigError(f"MODEL.WEIGHTS '{filename}' holds no weights")
        return checkpoint

    def _torch_load(self, f):
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint):
        if self._resuming and self.identity is not None and "identity" in checkpoint:
            for change in self.identity.check(checkpoint["identity"]):
                logger.warning("resumed although %s", change)
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
