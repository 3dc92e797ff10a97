"""The teacher's pass of a dense detector, which needs no further pass to measure or score."""

import torch
from detectron2.layers import batched_nms
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes, Instances, pairwise_iou

from ....geometry import clip_boxes
from ...pseudo_labels import rows_where
from ..base import Encoded, MeasuresStability, TeacherPass
from .predictions import Predictions, background_maps, predict

__all__ = ["DenseTeacherPass", "suppressed_variance"]

# Around the origin.
UNIT_BOX = (-0.5, -0.5, 0.5, 0.5)


class DenseTeacherPass(TeacherPass, MeasuresStability):
    """Detects on weak views as in an evaluation, without the last rescaling."""

    @torch.no_grad()
    def __init__(self, teacher: DenseDetector, encoded: Encoded, *, by_centerness: bool = False):
        """
        Args:
            teacher: in eval mode.
            encoded: the weak views.
            by_centerness: what measures boxes: their centerness, or what NMS suppressed.
        """
        found = predict(teacher, encoded)
        self._teacher = teacher
        self._candidates = self._decoded(found, encoded, by_centerness)
        self._by_centerness = by_centerness
        kept = [self._suppress(c) for c in self._candidates]
        detections = [c[k] for c, k in zip(self._candidates, kept)]
        for d in detections:
            d.pred_boxes = Boxes(clip_boxes(d.pred_boxes.tensor, d.image_size))
        inside = rows_where([d.pred_boxes.nonempty() for d in detections])
        self._kept = [k[i] for k, i in zip(kept, inside)]
        super().__init__([d[i] for d, i in zip(detections, inside)])
        self._background = background_maps(found)

    def variances(self, rows: list[torch.Tensor], seeds: list[int]) -> list[torch.Tensor]:
        """See :class:`MeasuresStability`; nothing is random.

        Returns:
            those of :func:`suppressed_variance`, or 1 - centerness.
        """
        boxes = zip(self._candidates, self._kept, rows)
        if self._by_centerness:
            return [1 - candidates.centerness[kept[r]] for candidates, kept, r in boxes]
        thresh = self._teacher.test_nms_thresh
        return [suppressed_variance(candidates, kept, r, thresh) for candidates, kept, r in boxes]

    def background_scores(self, points: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
        """1 - the highest class probability in the cell nearest to each point.

        Args:
            points: (N, R, 2) x and y in the weak views; those outside are scored at the border.
            strides: (N, R) in pixels of the weak views; the level whose stride is nearest in
                proportion scores the point.

        Returns:
            (N, R) float32.
        """
        grid = self._teacher.anchor_generator
        device = points.device
        known = torch.tensor(grid.strides, dtype=torch.float32, device=device)
        sizes = torch.tensor([m.shape[1:] for m in self._background], device=device)
        starts = sizes.prod(dim=1).cumsum(0) - sizes.prod(dim=1)
        level = (known.log() - strides.log()[..., None]).abs().argmin(dim=-1)
        places = (points.flip(-1) / known[level][..., None] - grid.offset).round().long()
        row, column = places.clamp(min=0).minimum(sizes[level] - 1).unbind(-1)
        values = torch.cat([m.flatten(1) for m in self._background], dim=1)
        return values.gather(1, starts[level] + row * sizes[level][..., 1] + column)

    def _decoded(
        self, found: Predictions, encoded: Encoded, by_centerness: bool
    ) -> list[Instances]:
        """Per image, the boxes before NMS, with ``centerness`` if that is wanted."""
        scores, teacher = found.scores(), self._teacher
        limits = teacher.test_score_thresh, teacher.test_topk_candidates
        decode, result = teacher._decode_multi_level_predictions, []
        for image, size in enumerate(encoded.images.image_sizes):
            ranked, deltas = ([level[image] for level in x] for x in (scores, found.deltas))
            boxes = decode(found.anchors, ranked, deltas, *limits, tuple(size))
            if by_centerness:
                # In the place of the distances to the sides of a box.
                units = [
                    Boxes(a.tensor.new_tensor([UNIT_BOX]).expand_as(a.tensor))
                    for a in found.anchors
                ]
                sides = [x[image].sigmoid().expand(-1, 4) for x in found.centerness]
                moved = decode(units, ranked, sides, *limits, tuple(size))
                boxes.centerness = moved.pred_boxes.tensor[:, 2]
            result.append(boxes)
        return result

    def _suppress(self, candidates: Instances) -> torch.Tensor:
        """Rows that NMS keeps, in descending order of score."""
        boxes, thresh = candidates.pred_boxes.tensor, self._teacher.test_nms_thresh
        rows = batched_nms(boxes, candidates.scores, candidates.pred_classes, thresh)
        return rows[: self._teacher.max_detections_per_image]


def suppressed_variance(
    candidates: Instances, kept: torch.Tensor, rows: torch.Tensor, nms_thresh: float
) -> torch.Tensor:
    """Box regression variance (Eq. 9) of boxes from those that NMS suppressed in their favor.

    Without a second stage nothing can refine jittered copies (Eq. 7). But many anchors around an
    object regress a box each, of which NMS keeps one. The others show what jittered copies would,
    how far the outcome depends on the start, and cost no pass. A candidate belongs to the kept box
    that suppressed it, the highest-scoring one of its class that overlaps it; a kept box belongs to
    itself.

    Args:
        candidates: m boxes before NMS, with ``pred_boxes``, ``pred_classes``.
        kept: (k,) rows of ``candidates`` that NMS kept, in descending order of score.
        rows: (n,) rows of ``kept`` that are measured.
        nms_thresh: IoU above which NMS suppresses.

    Returns:
        (n,) mean over the four coordinates of the standard deviation (unbiased), divided by
        0.5 (h + w) of the kept box. Infinite for a box that suppressed nothing, as one box has no
        spread, and for one without extent.
    """
    boxes, classes = candidates.pred_boxes, candidates.pred_classes
    overlaps = pairwise_iou(boxes[kept], boxes) > nms_thresh
    overlaps &= classes[kept][:, None] == classes
    member = (overlaps & (overlaps.cumsum(dim=0) == 1))[rows][..., None]
    count = member.sum(dim=1)
    own = boxes.tensor[kept[rows]]
    offsets = (boxes.tensor - own[:, None]).where(member, 0)
    spread = (offsets - (offsets.sum(dim=1) / count)[:, None]).where(member, 0)
    sigma = (spread.square().sum(dim=1) / (count - 1)).sqrt().mean(dim=1)
    half = (own[:, 2:] - own[:, :2]).mean(dim=1)
    known = (count[:, 0] > 1) & (half > 0)
    return (sigma / half).where(known, float("inf"))
