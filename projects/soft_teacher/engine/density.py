"""Thresholds for each class follow what all ranks have seen."""

from collections.abc import Sequence

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..modeling.step_record import MOST_CLASSES
from ..modeling.thresholds import DensityThresholds

__all__ = ["DensityThresholdsHook"]


class DensityThresholdsHook(HookBase):
    """Updates the thresholds after every step, alike on all ranks, and keeps them over a resume.

    Register it before the checkpointer.
    """

    def __init__(
        self, thresholds: DensityThresholds, *, class_names: Sequence[str] = (), period: int = 20
    ):
        """
        Args:
            thresholds: of the model.
            class_names: for the log.
            period: steps between log lines.
        """
        self.thresholds = thresholds
        self.class_names = class_names
        self.period = period

    def before_step(self) -> None:
        # A step that was broken off is repeated.
        self.thresholds.pending.zero_()

    def after_step(self) -> None:
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(self.thresholds.pending)
        self.thresholds.update()
        if (self.trainer.iter + 1) % self.period == 0 and comm.is_main_process():
            self._log(self.thresholds.thresholds[0].tolist())  # a host-device sync

    def _log(self, scores: list[float]) -> None:
        names = self.class_names if len(self.class_names) == len(scores) else range(len(scores))
        logged = {"pseudo/score_thresh": sum(scores) / len(scores)}
        if len(scores) <= MOST_CLASSES:
            logged |= {f"pseudo/score_thresh/{name}": s for name, s in zip(names, scores)}
        self.trainer.storage.put_scalars(**logged, smoothing_hint=False)

    def state_dict(self) -> dict:
        return self.thresholds.totals()

    def load_state_dict(self, state: dict) -> None:
        for name, total in self.thresholds.totals().items():
            total.copy_(state[name])
        self.thresholds.update()
