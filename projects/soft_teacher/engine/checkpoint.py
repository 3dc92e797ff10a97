"""Checkpoints of both networks; weights of a single detector fill both."""

import logging
import os

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..utils.atomic import AtomicPathManager
from ..utils.errors import ConfigError, one_line
from .identity import RunIdentity
from .saving import BEST, numbered_checkpoints
from .weights_file import BrokenCheckpoint, UnusableFile, plain_reason, read_checked

__all__ = ["BrokenCheckpoint", "SoftTeacherCheckpointer"]

logger = logging.getLogger(__name__)


class WeightsAlone(UnusableFile):
    """A file of weights without the state of a run beside them."""


class SoftTeacherCheckpointer(DetectionCheckpointer):
    """DetectionCheckpointer of a SoftTeacher.

    Besides its own checkpoints it loads any Detectron2 detector and any ImageNet backbone: weights
    without the prefix ``student.`` go into the student, and the teacher becomes its copy. Files
    are written atomically and checked before they are loaded; a resume skips broken ones.
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
            complete: every tensor of the networks must come from the file, as an evaluation needs
                it. Otherwise a detector's backbone is enough, and the box predictors of our own
                checkpoint may be of another number of classes.
            identity: of the run, saved, and compared before a resume.
            kwargs: of DetectionCheckpointer.
        """
        super().__init__(model, save_dir, **kwargs)
        self.path_manager = AtomicPathManager(self.path_manager)
        self.complete = complete
        self.identity = identity
        if identity is not None:
            self.add_checkpointable("identity", identity)
        self._resuming = False
        self._weights_alone: set[str] = set()

    def has_checkpoint(self) -> bool:
        """Whether there is a run in ``save_dir`` that can be resumed.

        Once :meth:`resume_or_load` has looked into the files, weights alone do not count.
        """
        return bool(self._resumable())

    def resume_or_load(self, path, *, resume: bool = True):
        """As the base class; resumes from the last checkpoint that is whole and holds a run.

        Raises ConfigError as :meth:`load`, and if another run would be resumed, or all are broken.
        """
        candidates = self._resumable() if resume else []
        broken = None
        for candidate in candidates:
            try:
                return self._resume(candidate)
            except WeightsAlone as error:
                logger.warning("%s", error)
                self._weights_alone.add(candidate)
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
        """Names the checkpoint to resume from, which the best one is not."""
        if last_filename_basename != f"{BEST}.pth":
            super().tag_last_checkpoint(last_filename_basename)

    def get_checkpoint_file(self) -> str:
        """The path that ``last_checkpoint`` names; empty if it names none."""
        try:
            return super().get_checkpoint_file()
        except UnicodeDecodeError:
            return ""

    def _resumable(self) -> list[str]:
        """Checkpoints that may hold a run, the one to try first at the front."""
        paths = [self.get_checkpoint_file(), *reversed(numbered_checkpoints(self.save_dir))]
        files = [path for path in dict.fromkeys(paths) if os.path.isfile(path)]
        return [path for path in files if path not in self._weights_alone]

    def load(self, path, *args, **kwargs):
        """As the base class.

        Raises ConfigError for a file that is missing, is no checkpoint, is damaged, holds another
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
                _check_trainer(self.checkpointables["trainer"])
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
        found = False
        if "://" in file:
            try:
                found = os.path.isfile(self.path_manager.get_local_path(file))
            except Exception as error:  # every scheme fails in its own way
                raise ConfigError(
                    f"SoftTeacherCheckpointer.path '{path}' cannot be fetched: {one_line(error)}"
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
                "SoftTeacherCheckpointer.path is of other classes: the box predictors are "
                "initialized anew"
            )
            # Not by load_state_dict, which would reset FrozenBN that is not among the names.
            teacher, student = self.model.teacher.state_dict(), self.model.student.state_dict()
            for name in anew:
                teacher[name].copy_(student[name])
        return incompatible

    def _check_resumable(self, checkpoint, ours: bool) -> None:
        # An evaluation needs nothing beside the weights; checkpoints may predate the identity.
        needed = set(self.checkpointables) - {"identity"}
        if needed and not (ours and needed <= checkpoint.keys()):
            raise WeightsAlone(
                "holds weights but no state of a run and is not resumed: name it as "
                "SoftTeacherCheckpointer.path, without --resume, to start from it"
            )
        if self.identity is not None and "identity" in checkpoint:
            for change in self.identity.check(checkpoint["identity"]):
                logger.warning("resumed although %s", change)


def _check_trainer(trainer) -> None:
    """Raises BrokenCheckpoint if the loaded state of a trainer would fail at the first step."""
    if type(trainer.iter) is not int or trainer.iter < 0:
        raise BrokenCheckpoint("holds no number of steps")
    for parameter, state in getattr(trainer, "_trainer", trainer).optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.dim() and value.shape != parameter.shape:
                raise BrokenCheckpoint(
                    f"holds the optimizer of another model: {name} is {tuple(value.shape)} for a "
                    f"parameter of {tuple(parameter.shape)}"
                )


def _of_other_classes(incompatible, layers: str) -> set[str]:
    """The tensors of some layers that the file has in other shapes, for both networks."""
    shapes = {key for key, *_ in incompatible.incorrect_shapes}
    names = {key.partition(".")[2] for key in shapes}
    both = {name for name in names if {f"student.{name}", f"teacher.{name}"} <= shapes}
    return {name for name in both if name.startswith(layers)}


def _check_filled(network, incompatible, *, every_tensor: bool, anew=frozenset()) -> None:
    """Raises UnusableFile if the file was made for another network.

    With ``every_tensor``, all but those in ``anew`` must come from the file. Otherwise some heads
    may be missing, or differ in the number of classes, but not the backbone.
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
        raise UnusableFile(
            f"holds another model: {len(bad)} tensors differ in shape and {len(absent)} are "
            f"missing, first '{(bad or absent)[0]}'"
        )
