"""From the teacher's detections to the two sets of pseudo boxes, and on to the student's view."""

from dataclasses import dataclass, field
from typing import List, Optional, Sized

import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..checks import check_fraction
from ..geometry import clip_boxes, nonempty, transform_boxes
from .box_jitter import BoxJitter

__all__ = ["PseudoLabels", "PseudoLabeler", "TeacherBoxes", "carry"]


@dataclass(frozen=True)
class TeacherBoxes:
    """The teacher's detections on one image, and what becomes of them.

    Attributes:
        detections: Instances with ``pred_boxes`` (weak view, absolute XYXY), ``pred_classes`` and
            ``scores``.
        confident: (n,) int64 rows of ``detections`` that make up G_cls.
        candidates: (n,) int64 rows that are jittered; none without box jittering.
        variances: their (n,) box regression variances.
        stable: (n,) int64 rows that make up G_reg.
    """

    detections: Instances
    confident: torch.Tensor
    candidates: torch.Tensor
    variances: torch.Tensor
    stable: torch.Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo boxes of a batch, per image, all in one view (absolute XYXY).

    Attributes:
        classification: G_cls, Instances with ``gt_boxes`` and ``gt_classes``.
        regression: G_reg, likewise.
        chosen_from: per image, the detections that they were chosen from; empty for labels that
            were carried to another view.
    """

    classification: List[Instances]
    regression: List[Instances]
    chosen_from: List[TeacherBoxes] = field(default_factory=list)

    def carried(self, matrices, image_sizes) -> "PseudoLabels":
        """The same labels under one 3x3 matrix per image, see :func:`carry`."""
        return PseudoLabels(
            [carry(g, m, s) for g, m, s in zip(self.classification, matrices, image_sizes)],
            [carry(g, m, s) for g, m, s in zip(self.regression, matrices, image_sizes)],
        )


def carry(labels: Instances, matrix: torch.Tensor, image_size) -> Instances:
    """Pseudo boxes of one image in another view of it.

    Args:
        labels: ``gt_boxes`` and ``gt_classes`` in the view that ``matrix`` starts from.
        matrix: (3, 3) affine map between the two views, absolute pixels.
        image_size: (height, width) of the target view.

    Returns:
        Instances in the target view: one enclosing box each, clipped to the view, boxes that
        left it dropped.
    """
    boxes = clip_boxes(transform_boxes(labels.gt_boxes.tensor, matrix), image_size)
    keep = rows_where(nonempty(boxes))
    return Instances(image_size, gt_boxes=Boxes(boxes[keep]), gt_classes=labels.gt_classes[keep])


class PseudoLabeler:
    """Chooses G_cls by foreground score and G_reg by box regression variance."""

    @configurable
    def __init__(self, *, score_thresh: float = 0.9, jitter: Optional[BoxJitter] = None):
        """
        Args:
            score_thresh: tau_cls, boxes scored above it are foreground (Table 9).
            jitter: measures box regression variance; None switches box jittering off, then
                G_reg = G_cls.

        Raises:
            ConfigError: for a threshold outside (0, 1).
        """
        check_fraction("SOFT_TEACHER.SCORE_THRESH", score_thresh)
        self.score_thresh = score_thresh
        self.jitter = jitter

    @classmethod
    def from_config(cls, cfg):
        return {
            "score_thresh": cfg.SOFT_TEACHER.SCORE_THRESH,
            "jitter": BoxJitter(cfg) if cfg.SOFT_TEACHER.JITTER.ENABLED else None,
        }

    @torch.no_grad()
    def __call__(
        self, roi_heads, features, detections: List[Instances], seeds: List[int]
    ) -> PseudoLabels:
        """
        Args:
            roi_heads: the teacher's heads, used for box jittering.
            features: the teacher's feature maps of the weak views.
            detections: per image, what the teacher detects: ``pred_boxes``, ``pred_classes``,
                ``scores`` (weak view, after NMS).
            seeds: per image, the seed of its jitter.

        Returns:
            PseudoLabels in the weak view.
        """
        if self.jitter is None:
            chosen = [self._by_score(d) for d in detections]
        else:
            chosen = self._by_score_and_variance(roi_heads, features, detections, seeds)
        log_mean_count("num_detections", [c.detections for c in chosen])
        log_mean_count("num_cls_boxes", [c.confident for c in chosen])
        log_mean_count("num_reg_boxes", [c.stable for c in chosen])
        return PseudoLabels(
            [as_targets(c.detections[c.confident]) for c in chosen],
            [as_targets(c.detections[c.stable]) for c in chosen],
            chosen,
        )

    def _by_score(self, detections: Instances) -> TeacherBoxes:
        """G_cls is G_reg."""
        confident = rows_where(detections.scores > self.score_thresh)
        nothing = confident[:0]
        return TeacherBoxes(detections, confident, nothing, nothing.float(), confident)

    def _by_score_and_variance(self, roi_heads, features, detections, seeds) -> List[TeacherBoxes]:
        rows = [rows_where(d.scores > self.jitter.score_thresh) for d in detections]
        candidates = [d[r] for d, r in zip(detections, rows)]
        variances = self.jitter.variance(roi_heads, features, candidates, seeds)
        log_mean_count("num_reg_candidates", candidates)
        return [
            TeacherBoxes(
                detections=d,
                confident=rows_where(d.scores > self.score_thresh),
                candidates=r,
                variances=v,
                stable=r[rows_where(v < self.jitter.variance_thresh)],
            )
            for d, r, v in zip(detections, rows, variances)
        ]


def rows_where(mask: torch.Tensor) -> torch.Tensor:
    """(n,) int64 rows of a (m,) bool mask.

    Finding them waits for the device; indexing with them does not, while a mask would be read
    again for every field.
    """
    return torch.nonzero(mask).squeeze(1)


def as_targets(detections: Instances) -> Instances:
    """Detections under the names of ground truth."""
    return Instances(
        detections.image_size, gt_boxes=detections.pred_boxes, gt_classes=detections.pred_classes
    )


def log_mean_count(name: str, per_image: List[Sized]) -> None:
    """Logs the mean number of boxes per image."""
    get_event_storage().put_scalar(name, sum(map(len, per_image)) / max(len(per_image), 1))
