"""Quality of scored boxes: precision and recall by threshold, and correlations with the IoU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Correlation", "Curve", "correlation", "foreground_curve", "trend"]


@dataclass(frozen=True)
class Curve:
    """Boxes above each of t score thresholds (Fig. 3a).

    Attributes:
        thresholds: (t,) ascending.
        boxes: (t,) boxes scored above the threshold.
        hits: (t,) those of them that found an object.
        objects: number of objects to find.
    """

    thresholds: np.ndarray
    boxes: np.ndarray
    hits: np.ndarray
    objects: int

    @property
    def precision(self) -> np.ndarray:
        """(t,) share of the boxes that found an object; NaN without boxes."""
        return _ratio(self.hits, self.boxes)

    @property
    def recall(self) -> np.ndarray:
        """(t,) share of the objects that were found; NaN without objects."""
        return _ratio(self.hits, self.objects)

    @property
    def f1(self) -> np.ndarray:
        """(t,) harmonic mean of precision and recall; NaN with neither boxes nor objects."""
        return _ratio(2 * self.hits, self.boxes + self.objects)

    @property
    def preferred(self) -> int | None:
        """Index of the threshold with the best F1, of equals the highest; None without a hit."""
        if not self.hits.any():
            return None
        return len(self.f1) - 1 - int(np.argmax(self.f1[::-1]))

    def point(self, place: int) -> list:
        """[threshold, boxes, precision, recall, F1] at one index, with None for NaN."""
        shares = (self.precision[place], self.recall[place], self.f1[place])
        counted = [float(self.thresholds[place]), int(self.boxes[place])]
        return counted + [None if np.isnan(share) else float(share) for share in shares]


def foreground_curve(
    scores: np.ndarray, hits: np.ndarray, objects: int, thresholds: Sequence[float]
) -> Curve:
    """Counts of one greedy matching at every threshold.

    A box's verdict does not depend on boxes with lower scores
    (:func:`~soft_teacher.evaluation.pseudo_label_quality.judge_boxes`), so a threshold cuts the
    list and changes nothing above the cut.

    Args:
        scores: (n,) of all boxes that count.
        hits: (n,) bool, boxes that found an object.
        objects: number of objects to find.
        thresholds: ascending; a box passes one if its score is above it.
    """
    thresholds = np.asarray(thresholds, dtype=float)
    return Curve(thresholds, _above(scores, thresholds), _above(scores[hits], thresholds), objects)


@dataclass(frozen=True)
class Correlation:
    """How two quantities are correlated.

    Attributes:
        count: pairs where both are finite; the others are left out.
        pearson: linear correlation in [-1, 1]; None where one of the two does not vary.
        spearman: the same of the ranks, where equal values share their mean rank.
    """

    count: int
    pearson: float | None
    spearman: float | None


def correlation(x: np.ndarray, y: np.ndarray) -> Correlation:
    """Both correlations of (n,) and (n,)."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    return Correlation(len(x), _pearson(x, y), _pearson(_ranks(x), _ranks(y)))


def trend(x: np.ndarray, y: np.ndarray, parts: int = 10) -> np.ndarray:
    """(p, 2) means of x and y over parts of equal size, in order of x; p <= parts."""
    order = np.argsort(x, kind="stable")
    chunks = [chunk for chunk in np.array_split(order, parts) if len(chunk)]
    return np.array([(x[chunk].mean(), y[chunk].mean()) for chunk in chunks]).reshape(-1, 2)


def _ratio(part: np.ndarray, whole) -> np.ndarray:
    nothing = np.full(len(part), np.nan)
    return np.divide(part, whole, out=nothing, where=np.asarray(whole) > 0)


def _above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")


def _pearson(x: np.ndarray, y: np.ndarray) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest; equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
