"""Whether a checkpoint holds a training that can be resumed."""

from collections.abc import Iterable

import torch

from .weights_file import BrokenCheckpoint, UnusableFile

__all__ = ["NoTraining", "check_holds_training", "check_resumed"]


class NoTraining(UnusableFile):
    """A file of weights without the state of a training beside them."""


def check_holds_training(checkpoint: dict, parts: Iterable[str], *, ours: bool) -> None:
    """Raises NoTraining if a checkpoint is to continue a training and holds weights alone.

    Args:
        checkpoint: as read from the file.
        parts: names of what is loaded beside the weights; nothing for an evaluation. Checkpoints
            may be older than the identity.
        ours: whether the weights are those of both networks.
    """
    needed = set(parts) - {"identity"}
    if needed and not (ours and needed <= checkpoint.keys()):
        raise NoTraining(
            "holds no training beside its weights and is not resumed: name it as "
            "SoftTeacherCheckpointer.path, without --resume, to start from it"
        )


def check_resumed(trainer) -> None:
    """Raises BrokenCheckpoint if the state that a trainer was given would fail at its first step.

    Args:
        trainer: a DefaultTrainer, or a loop of its own.
    """
    if type(trainer.iter) is not int or trainer.iter < 0:
        raise BrokenCheckpoint("holds no number of steps")
    for parameter, state in getattr(trainer, "_trainer", trainer).optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.dim() and value.shape != parameter.shape:
                raise BrokenCheckpoint(
                    f"holds the optimizer of another model: {name} is {tuple(value.shape)} for a "
                    f"parameter of {tuple(parameter.shape)}"
                )
