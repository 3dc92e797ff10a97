"""Checkpoints of both networks; weights of a single detector fill both."""

import logging
import os

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..utils.atomic import AtomicPathManager
from ..utils.errors import ConfigError, one_line
from .identity import RunIdentity
from .resumable import NoTraining, check_holds_training, check_resumed
from .saving import BEST, numbered_checkpoints
from .weights_file import BrokenCheckpoint, UnusableFile, plain_reason, read_checked

__all__ = ["BrokenCheckpoint", "OtherModel", "SoftTeacherCheckpointer"]

logger = logging.getLogger(__name__)


class OtherModel(UnusableFile):
    """A file of weights of another network."""


class SoftTeacherCheckpointer(DetectionCheckpointer):
    """DetectionCheckpointer of a SoftTeacher.

    Besides its own checkpoints it loads any Detectron2 detector and any ImageNet backbone: weights
    without the prefix ``student.`` go into the student, and the teacher becomes its copy. Files
    are written atomically and checked before they are loaded; a broken one is passed over when a
    training is resumed.
    """

    def __init__(
        self,
        model,
        save_dir="",
        *,
        complete: bool = False,
        identity: RunIdentity | None = None,
        **kwargs,
    ):
        """
        Args:
            complete: every tensor of the networks must come from the file, as evaluation wants
                it. Otherwise a detector's backbone is enough, and the box predictors of our own
                checkpoint may be of another number of classes.
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
        self._without_training: set[str] = set()

    def has_checkpoint(self) -> bool:
        """Whether there is a training in ``save_dir`` that can be resumed.

        Once :meth:`resume_or_load` has looked into the files, weights alone do not count.
        """
        return bool(self._resumable())

    def resume_or_load(self, path, *, resume: bool = True):
        """As the base class; of several checkpoints, the last that is a whole training is resumed.

        Raises:
            ConfigError: see :meth:`load`; also if another training would be resumed, or every
                checkpoint is broken.
        """
        candidates = self._resumable() if resume else []
        broken = None
        for candidate in candidates:
            try:
                return self._resume(candidate)
            except NoTraining as error:
                logger.warning("%s", error)
                self._without_training.add(candidate)
            except BrokenCheckpoint as error:
                broken = error
                if candidate != candidates[-1]:
                    logger.warning("%s; going back to the checkpoint before", error)
        if broken is not None:
            raise broken
        if resume:
            logger.warning(
                "nothing to resume in '%s': starting from SoftTeacherCheckpointer.path",
                self.save_dir,
            )
        return self.load(path, checkpointables=[])

    def _resume(self, path: str) -> dict:
        self._resuming = True
        try:
            return self.load(path)
        finally:
            self._resuming = False

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Names the checkpoint to resume from; the best one is not for that."""
        if last_filename_basename != f"{BEST}.pth":
            super().tag_last_checkpoint(last_filename_basename)

    def get_checkpoint_file(self) -> str:
        """The path that ``last_checkpoint`` names; empty if it names none."""
        try:
            return super().get_checkpoint_file()
        except UnicodeDecodeError:
            return ""

    def _resumable(self) -> list[str]:
        """Checkpoints that may hold a training, the one to try first at the front."""
        paths = [self.get_checkpoint_file(), *reversed(numbered_checkpoints(self.save_dir))]
        files = [path for path in dict.fromkeys(paths) if os.path.isfile(path)]
        return [path for path in files if path not in self._without_training]

    def load(self, path, *args, **kwargs):
        """As the base class.

        Raises:
            ConfigError: for a file that is missing, is not a checkpoint, is damaged, holds another
                model or numbers that are not finite, or would run code.
        """
        if not path and self.complete:
            raise ConfigError(
                "SoftTeacherCheckpointer.path is empty: name the checkpoint to evaluate"
            )
        self._check_exists(path)
        file = (
            f"checkpoint '{path}'" if self._resuming else f"SoftTeacherCheckpointer.path '{path}'"
        )
        try:
            rest = super().load(path, *args, **kwargs)
            if self._resuming and "trainer" in self.checkpointables:
                check_resumed(self.checkpointables["trainer"])
            return rest
        except UnusableFile as error:
            raise type(error)(f"{file} {error}") from error
        except ConfigError:
            raise
        except Exception as error:  # a file holds anything, and its readers raise many kinds
            raise BrokenCheckpoint(f"{file} cannot be read: {plain_reason(error)}") from error
        finally:
            self._parsed_url_during_load = None  # else a refused file spoils the next load

    def _check_exists(self, path):
        file = (path or "").split("?")[0]
        if not file or os.path.isfile(file):
            return
        if "://" not in file:
            raise ConfigError(f"SoftTeacherCheckpointer.path '{path}' does not exist")
        try:
            found = os.path.isfile(self.path_manager.get_local_path(file))
        except Exception as error:  # every scheme fails in its own way
            raise ConfigError(
                f"SoftTeacherCheckpointer.path '{path}' cannot be had: {one_line(error)}"
            ) from error
        if not found:
            raise ConfigError(f"SoftTeacherCheckpointer.path '{path}' does not exist")

    def _load_file(self, filename):
        return read_checked(filename, super()._load_file)

    def _torch_load(self, f):
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint):
        ours = any(key.startswith("student.") for key in checkpoint["model"])
        if self._resuming:
            self._check_resumable(checkpoint, ours)
        if not ours:
            incompatible = DetectionCheckpointer(self.model.student)._load_model(checkpoint)
            _check_filled(self.model.student, incompatible, every_tensor=self.complete)
            self.model.copy_student_to_teacher()
            return incompatible
        incompatible = super()._load_model(checkpoint)
        anew = set()
        if not (self.complete or self._resuming):
            anew = _of_other_classes(incompatible, self.model.family.class_layers)
        _check_filled(self.model, incompatible, every_tensor=True, anew=anew)
        if anew:
            logger.warning(
                "SoftTeacherCheckpointer.path is of other classes: the box predictors start anew"
            )
            self._copy_to_teacher(anew)
        return incompatible

    def _check_resumable(self, checkpoint, ours: bool) -> None:
        check_holds_training(checkpoint, self.checkpointables, ours=ours)
        if self.identity is not None and "identity" in checkpoint:
            for change in self.identity.check(checkpoint["identity"]):
                logger.warning("resumed although %s", change)

    @torch.no_grad()
    def _copy_to_teacher(self, names: set[str]) -> None:
        teacher, student = self.model.teacher.state_dict(), self.model.student.state_dict()
        for name in names:
            teacher[name].copy_(student[name])


def _of_other_classes(incompatible, layers: str) -> set[str]:
    """The tensors of some layers that the file has in other shapes, for both networks."""
    student, teacher = (
        {
            key.removeprefix(side)
            for key, *_ in incompatible.incorrect_shapes
            if key.startswith(f"{side}{layers}")
        }
        for side in ("student.", "teacher.")
    )
    return student & teacher


def _check_filled(network, incompatible, *, every_tensor: bool, anew=frozenset()) -> None:
    """Raises OtherModel if the file was made for another network.

    Some heads may be missing, or differ in the number of classes; the backbone may not.

    Args:
        every_tensor: of the network, must come from the file, but for
        anew: names within student and teacher that start anew.
    """
    if every_tensor:
        names = [n for n in network.state_dict() if n.partition(".")[2] not in anew]
    else:  # BN's own counters are never reported as missing, parameters are
        names = [n for n, _ in network.named_parameters() if n.startswith("backbone.")]
    mismatched = {key for key, *_ in incompatible.incorrect_shapes}
    missing = set(incompatible.missing_keys) - mismatched
    bad = [n for n in names if n in mismatched]
    absent = [n for n in names if n in missing]
    nothing = len(bad) + len(absent) == len(names)
    if bad or (absent and every_tensor) or nothing:
        raise OtherModel(
            f"holds another model: {len(bad)} tensors differ in shape and {len(absent)} are "
            f"missing, first '{(bad or absent)[0]}'"
        )
