"""The teacher's pass of a RetinaNet, which answers every question from its own output."""

import torch
from detectron2.layers import batched_nms
from detectron2.modeling import RetinaNet
from detectron2.structures import Boxes, Instances, pairwise_iou

from ....geometry import clip_boxes
from ..base import Encoded, MeasuresStability, TeacherPass
from .places import values_at
from .predictions import predict

__all__ = ["RetinaNetTeacherPass", "suppressed_variance"]


class RetinaNetTeacherPass(TeacherPass, MeasuresStability):
    """Detects on weak views as in an evaluation, without the last rescaling."""

    @torch.no_grad()
    def __init__(self, teacher: RetinaNet, encoded: Encoded):
        """
        Args:
            teacher: in eval mode.
            encoded: the weak views.
        """
        found = predict(teacher, encoded)
        scores = [logits.sigmoid() for logits in found.logits]
        self._candidates = [
            teacher._decode_multi_level_predictions(
                found.anchors,
                [s[image] for s in scores],
                [d[image] for d in found.deltas],
                teacher.test_score_thresh,
                teacher.test_topk_candidates,
                tuple(size),
            )
            for image, size in enumerate(encoded.images.image_sizes)
        ]
        self._kept = [_kept(teacher, c) for c in self._candidates]
        super().__init__([_clipped(c[k]) for c, k in zip(self._candidates, self._kept)])
        self._nms_thresh = teacher.test_nms_thresh
        self._strides = teacher.anchor_generator.strides
        self._offset = teacher.anchor_generator.offset
        self._background = [
            1 - s.reshape(len(s), *shape, -1).amax(dim=-1) for s, shape in zip(scores, found.shapes)
        ]

    def variances(self, rows: list[torch.Tensor], seeds: list[int]) -> list[torch.Tensor]:
        """See :class:`MeasuresStability` and :func:`suppressed_variance`; nothing is random."""
        return [
            suppressed_variance(candidates, kept, r, self._nms_thresh)
            for candidates, kept, r in zip(self._candidates, self._kept, rows)
        ]

    def background_scores(self, points: torch.Tensor, strides: torch.Tensor) -> torch.Tensor:
        """1 - the highest probability of a class, over all anchors of a place.

        Args:
            points: (N, R, 2) x and y in the weak views.
            strides: (N, R) of the level that would look at each point, in pixels of these views.

        Returns:
            (N, R) float32.
        """
        return values_at(self._background, self._strides, self._offset, points, strides)


def suppressed_variance(
    candidates: Instances, kept: torch.Tensor, rows: torch.Tensor, nms_thresh: float
) -> torch.Tensor:
    """Box regression variance (Eq. 9) of boxes from those that NMS suppressed onto them.

    A detector without a second stage cannot refine jittered copies (Eq. 7). But many anchors
    around an object regress a box of their own, and NMS keeps one of them: the others tell what
    the copies would have told, how far the outcome depends on where one starts, and cost no pass.
    A candidate belongs to the kept box that suppressed it, that is to the best scored one that
    overlaps it, in its class; a kept box belongs to itself.

    Args:
        candidates: m boxes before NMS, with ``pred_boxes``, ``pred_classes``.
        kept: (k,) rows of ``candidates`` that NMS kept, the best scored first.
        rows: (n,) rows of ``kept`` that are measured.
        nms_thresh: IoU above which NMS suppressed.

    Returns:
        (n,) mean over the four coordinates of the standard deviation (unbiased), divided by
        0.5 (h + w) of the kept box. Infinite for a box that suppressed nothing, as one opinion
        says nothing of its spread, and for one without extent.
    """
    boxes, classes = candidates.pred_boxes, candidates.pred_classes
    suppresses = pairwise_iou(boxes[kept], boxes) > nms_thresh
    suppresses &= classes[kept][:, None] == classes
    member = (suppresses & (suppresses.cumsum(dim=0) == 1))[rows][..., None]
    count = member.sum(dim=1)
    centre = boxes.tensor[kept[rows]]
    offsets = (boxes.tensor - centre[:, None]).where(member, 0)
    deviations = (offsets - (offsets.sum(dim=1) / count)[:, None]).where(member, 0)
    sigma = (deviations.square().sum(dim=1) / (count - 1)).sqrt().mean(dim=1)
    half = (centre[:, 2:] - centre[:, :2]).mean(dim=1)
    known = (count[:, 0] > 1) & (half > 0)
    return (sigma / half).where(known, float("inf"))


def _kept(network: RetinaNet, candidates: Instances) -> torch.Tensor:
    """Rows that a RetinaNet keeps of its candidates, the best scored first."""
    rows = batched_nms(
        candidates.pred_boxes.tensor,
        candidates.scores,
        candidates.pred_classes,
        network.test_nms_thresh,
    )
    return rows[: network.max_detections_per_image]


def _clipped(found: Instances) -> Instances:
    found.pred_boxes = Boxes(clip_boxes(found.pred_boxes.tensor, found.image_size))
    return found
