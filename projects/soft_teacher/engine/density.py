"""Thresholds for each class follow what all ranks have seen."""

from collections.abc import Sequence

from ..modeling.step_record import MOST_CLASSES
from ..modeling.thresholds import DensityThresholds
from .pending import PendingHook

__all__ = ["DensityThresholdsHook"]


class DensityThresholdsHook(PendingHook):
    """Updates the thresholds after every step, see the base class."""

    def __init__(
        self, thresholds: DensityThresholds, *, class_names: Sequence[str] = (), period: int = 20
    ):
        """
        Args:
            thresholds: of the model.
            class_names: for the log.
            period: steps between log lines.
        """
        super().__init__(thresholds, period=period)
        self.class_names = class_names

    def scalars(self) -> dict[str, float]:
        scores = self.counted.thresholds[0].tolist()
        names = self.class_names if len(self.class_names) == len(scores) else range(len(scores))
        logged = {"pseudo/score_thresh": sum(scores) / len(scores)}
        if len(scores) <= MOST_CLASSES:
            logged |= {f"pseudo/score_thresh/{name}": s for name, s in zip(names, scores)}
        return logged
