"""Precision and recall of pseudo boxes where the truth about unlabeled images is known."""

from dataclasses import dataclass
from typing import Optional

import numpy as np

__all__ = ["Matches", "box_iou", "match_boxes"]


@dataclass(frozen=True)
class Matches:
    """Counts of boxes, to be added up over images.

    Attributes:
        true_positives: boxes that found an object.
        false_positives: boxes that found none.
        false_negatives: objects that no box found.
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def precision(self) -> Optional[float]:
        """Share of the boxes that found an object; None without boxes."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> Optional[float]:
        """Share of the objects that were found; None without objects."""
        return _share(self.true_positives, self.false_negatives)


def _share(hits: int, misses: int) -> Optional[float]:
    return hits / (hits + misses) if hits + misses else None


def match_boxes(
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    true_boxes: np.ndarray,
    true_classes: np.ndarray,
    *,
    iou_thresh: float = 0.5,
) -> Matches:
    """Greedy one-to-one matching on one image, as COCO's evaluation does it.

    In order of falling scores, each box takes the object of its class with the largest IoU among
    those that are still free and overlap it by ``iou_thresh`` at least.

    Args:
        boxes, classes, scores: (n, 4) XYXY, (n,), (n,) of the pseudo boxes.
        true_boxes, true_classes: (m, 4) XYXY in the same frame, (m,).
        iou_thresh: in (0, 1].
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = box_iou(boxes[order], true_boxes)
    overlaps[classes[order][:, None] != true_classes[None]] = 0
    found = 0
    for row in overlaps if overlaps.size else ():
        best = row.argmax()
        if row[best] >= iou_thresh:
            found += 1
            overlaps[:, best] = 0
    return Matches(found, len(boxes) - found, len(true_boxes) - found)


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union of (n, 4) and (m, 4) XYXY boxes; 0 where neither has area."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=2)
    union = _area(boxes)[:, None] + _area(others)[None] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
