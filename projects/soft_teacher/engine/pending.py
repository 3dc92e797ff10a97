"""What the micro-batches of a step count, added up over all ranks once the step is done."""

from typing import Protocol

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

__all__ = ["Counted", "PendingHook"]


class Counted(Protocol):
    """What a run counts: ``pending`` waits for the end of the step.

    Attributes:
        pending: int64, added to in a forward pass.
    """

    pending: torch.Tensor

    def update(self) -> None:
        """Takes what is pending, which by now is that of all ranks, and zeroes it."""

    def totals(self) -> dict[str, torch.Tensor]:
        """The state by name, from which all else follows, what is pending apart."""

    def scalars(self) -> dict[str, float]:
        """For the log."""


class PendingHook(HookBase):
    """Updates what a run counts after every step, alike on all ranks, and keeps it over a resume.

    Register it before the checkpointer.
    """

    def __init__(self, counted: Counted, *, period: int = 20):
        """
        Args:
            counted: of the model.
            period: steps between log lines.
        """
        self.counted = counted
        self.period = period

    def before_step(self) -> None:
        # A step that was broken off is repeated.
        self.counted.pending.zero_()

    def after_step(self) -> None:
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(self.counted.pending)
        self.counted.update()
        if (self.trainer.iter + 1) % self.period == 0 and comm.is_main_process():
            self.trainer.storage.put_scalars(**self.scalars(), smoothing_hint=False)

    def scalars(self) -> dict[str, float]:
        """For the log, at the cost of a host-device sync."""
        return self.counted.scalars()

    def state_dict(self) -> dict:
        return self.counted.totals()

    def load_state_dict(self, state: dict) -> None:
        for name, total in self.counted.totals().items():
            total.copy_(state[name])
        self.counted.update()
