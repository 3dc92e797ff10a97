"""Precision and recall of pseudo boxes where unlabeled images have ground truth."""

from dataclasses import astuple, dataclass

import numpy as np
from pycocotools import mask as coco_mask

__all__ = ["NO_OBJECT", "Matches", "box_iou", "judge_boxes", "match_boxes", "matched_objects"]

# In the place of an object's number.
NO_OBJECT = -1


@dataclass(frozen=True)
class Matches:
    """Boxes that found an object, boxes that found none, and objects that no box found."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(*(a + b for a, b in zip(astuple(self), astuple(other))))

    @property
    def precision(self) -> float | None:
        """Share of the boxes that found an object; None without boxes."""
        return _share(self.true_positives, self.false_positives)

    @property
    def recall(self) -> float | None:
        """Share of the objects that were found; None without objects."""
        return _share(self.true_positives, self.false_negatives)


def _share(hits: int, misses: int) -> float | None:
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
    """What :func:`judge_boxes` finds on an image without crowds, counted."""
    hits, _ = judge_boxes(boxes, classes, scores, true_boxes, true_classes, iou_thresh=iou_thresh)
    found = int(hits.sum())
    return Matches(found, len(boxes) - found, len(true_boxes) - found)


def judge_boxes(
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    true_boxes: np.ndarray,
    true_classes: np.ndarray,
    crowds: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    iou_thresh: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """The verdict of :func:`matched_objects` on the boxes of one image, crowds considered.

    Args:
        boxes, classes, scores, true_boxes, true_classes, iou_thresh: of it.
        crowds: (k, 4) XYXY and (k,) classes of the crowds, if there are any.

    Returns:
        (n,) bool, boxes that found an object; (n,) bool, boxes that found none but lie in a crowd
        of their class by ``iou_thresh`` of their area at least: they are neither right nor wrong.
    """
    found = matched_objects(boxes, classes, scores, true_boxes, true_classes, iou_thresh=iou_thresh)
    hits = found != NO_OBJECT
    neutral = np.zeros(len(boxes), dtype=bool)
    if crowds is not None:
        inside = box_iou(boxes, crowds[0], crowds=True)
        same_class = classes[:, None] == np.asarray(crowds[1])[None]
        neutral = ~hits & (same_class & (inside >= iou_thresh)).any(axis=1)
    return hits, neutral


def matched_objects(
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    true_boxes: np.ndarray,
    true_classes: np.ndarray,
    *,
    iou_thresh: float = 0.5,
) -> np.ndarray:
    """Greedy one-to-one matching on one image, as COCO's evaluation does it.

    In order of falling scores, each box takes the object of its class with the largest IoU among
    those that are still free and overlap it by ``iou_thresh`` at least. The verdict on a box does
    not depend on those with lower scores.

    Args:
        boxes, classes, scores: (n, 4) XYXY, (n,), (n,) of the pseudo boxes.
        true_boxes, true_classes: (m, 4) XYXY in the same frame, (m,).
        iou_thresh: in (0, 1].

    Returns:
        (n,) int64, the number of the object that each box found, or ``NO_OBJECT``.
    """
    free = box_iou(boxes, true_boxes)
    free[classes[:, None] != np.asarray(true_classes)[None]] = 0
    found = np.full(len(boxes), NO_OBJECT)
    for row in np.argsort(-scores, kind="stable") if free.size else ():
        best = free[row].argmax()
        if free[row, best] >= iou_thresh:
            found[row] = best
            free[:, best] = 0
    return found


def box_iou(boxes: np.ndarray, others: np.ndarray, *, crowds: bool = False) -> np.ndarray:
    """Intersection over union, as COCO's evaluation computes it.

    Args:
        boxes, others: (n, 4) and (m, 4) XYXY.
        crowds: the others are crowds, and the union is the area of the box alone.

    Returns:
        (n, m) float64; 0 where a box has no area.
    """
    if not (len(boxes) and len(others)):
        return np.zeros((len(boxes), len(others)))
    return coco_mask.iou(_xywh(boxes), _xywh(others), [crowds] * len(others))


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(float)
