"""Whether two detectors find the same, matched by class and IoU, since orders differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from detectron2.structures import Boxes, pairwise_iou

from ...utils.errors import ExportError
from .detection_tensors import DetectionTensors

__all__ = ["Agreement", "compare"]

# Of the ONNX file of a full R50 scores differed by up to 5e-4; a box of 32 pixels may move by 0.1.
MIN_IOU = 0.99
MAX_SCORE = 2e-3
MAX_MASK = 1e-2


@dataclass(frozen=True)
class Agreement:
    """How closely two detectors agree.

    Attributes:
        matched: number of detections of both.
        score, box, mask: largest difference of a score, a coordinate in pixels, a probability.
    """

    matched: int = 0
    score: float = 0.0
    box: float = 0.0
    mask: float = 0.0

    def joined(self, other: Agreement) -> Agreement:
        """That on the images of both."""
        largest = (max(getattr(self, f), getattr(other, f)) for f in ("score", "box", "mask"))
        return Agreement(self.matched + other.matched, *largest)

    def __str__(self) -> str:
        masks = f", probabilities of masks by {self.mask:.1g}" if self.mask else ""
        return (
            f"{self.matched} detections agree: scores differ by at most {self.score:.1g}, "
            f"boxes by {self.box:.1g} pixels{masks}"
        )


def compare(
    ours: DetectionTensors, theirs: DetectionTensors, *, floor: float, limit: int
) -> Agreement:
    """Compares the detections of one image.

    A detection may be missing from one side if its score lies where rounding decides whether it
    is reported at all.

    Args:
        floor: score below which detections are dropped.
        limit: the most detections of an image.

    Raises:
        ExportError: they differ.
    """
    pairs = list(_matches(ours, theirs))
    left = _unmatched(ours, [i for i, _ in pairs], _cut(theirs, floor, limit))
    more = _unmatched(theirs, [j for _, j in pairs], _cut(ours, floor, limit))
    if left or more:
        raise ExportError(
            f"of {len(ours.scores)} detections {left} have no counterpart, and {more} are new"
        )
    if not pairs:
        return Agreement()
    rows, columns = map(list, zip(*pairs))
    mask = 0.0 if ours.masks is None else _largest(ours.masks[rows], theirs.masks[columns])
    if mask > MAX_MASK:
        raise ExportError(f"probabilities of masks differ by {mask:.2g}")
    return Agreement(
        len(pairs),
        _largest(ours.scores[rows], theirs.scores[columns]),
        _largest(ours.boxes[rows], theirs.boxes[columns]),
        mask,
    )


def _matches(ours: DetectionTensors, theirs: DetectionTensors) -> Iterable[tuple[int, int]]:
    """Pairs of the same class, score and place, each detection once, best IoU first."""
    iou = pairwise_iou(Boxes(ours.boxes), Boxes(theirs.boxes))
    same = ours.classes[:, None] == theirs.classes[None, :]
    same &= (ours.scores[:, None] - theirs.scores[None, :]).abs() <= MAX_SCORE
    candidates = (same & (iou >= MIN_IOU)).nonzero()
    order = iou[candidates[:, 0], candidates[:, 1]].argsort(descending=True)
    rows, columns = set(), set()
    for i, j in candidates[order].tolist():
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            yield i, j


def _cut(found: DetectionTensors, floor: float, limit: int) -> float:
    """The score up to which a detection may be missing from ``found``."""
    is_full = 0 < limit <= len(found.scores)
    return (max(floor, found.scores.min().item()) if is_full else floor) + MAX_SCORE


def _unmatched(found: DetectionTensors, matched: list[int], cut: float) -> int:
    left = torch.ones(len(found.scores), dtype=torch.bool)
    left[matched] = False
    return int((left & (found.scores > cut)).sum())


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()
