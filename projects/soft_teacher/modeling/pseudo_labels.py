"""From the teacher's detections to the two sets of pseudo boxes, and on to the student's view."""

from dataclasses import dataclass, field
from typing import List, Optional, Sequence, Sized, Tuple

import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..checks import check_fraction
from ..geometry import clip_boxes, transform_boxes
from .box_jitter import BoxJitter

__all__ = ["PseudoLabels", "PseudoLabeler", "TeacherBoxes", "carry", "rows_where"]


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
    """Pseudo boxes of a batch, per image, in the student's view (strong, absolute XYXY).

    Attributes:
        classification: G_cls, Instances with ``gt_boxes`` and ``gt_classes``.
        regression: G_reg, likewise.
        chosen_from: per image, the detections that they were chosen from, in the weak view.
    """

    classification: List[Instances]
    regression: List[Instances]
    chosen_from: List[TeacherBoxes] = field(default_factory=list)


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
        self,
        roi_heads,
        features,
        detections: List[Instances],
        seeds: List[int],
        to_strong: Sequence[torch.Tensor],
        image_sizes: List[Tuple[int, int]],
    ) -> PseudoLabels:
        """Waits for the device twice, once without box jittering, however many images there are.

        Args:
            roi_heads: the teacher's heads, used for box jittering.
            features: the teacher's feature maps of the weak views.
            detections: per image, what the teacher detects: ``pred_boxes``, ``pred_classes``,
                ``scores`` (weak view, after NMS).
            seeds: per image, the seed of its jitter.
            to_strong: per image, the (3, 3) matrix from the weak to the strong view, absolute
                pixels.
            image_sizes: per image, (height, width) of the strong view.

        Returns:
            PseudoLabels in the strong view; boxes that left it are dropped.
        """
        confident = [d.scores > self.score_thresh for d in detections]
        if self.jitter is None:
            nothing = [d.scores.new_zeros(0) for d in detections]
            candidates, variances, stable = [n.long() for n in nothing], nothing, confident
        else:
            candidates, variances, stable = self._jittered(roi_heads, features, detections, seeds)
        moved = [carry(d.pred_boxes, m, s) for d, m, s in zip(detections, to_strong, image_sizes)]
        inside = [boxes.nonempty() for boxes in moved]
        chosen = [*confident, *stable]
        kept = [mask & i for mask, i in zip(chosen, inside * 2)]
        confident, stable, g_cls, g_reg = _in_parts(rows_where(chosen + kept), 4)
        log_mean_count("num_detections", detections)
        log_mean_count("num_cls_boxes", confident)
        log_mean_count("num_reg_boxes", stable)
        return PseudoLabels(
            [_targets(*x) for x in zip(detections, moved, image_sizes, g_cls)],
            [_targets(*x) for x in zip(detections, moved, image_sizes, g_reg)],
            [TeacherBoxes(*x) for x in zip(detections, confident, candidates, variances, stable)],
        )

    def _jittered(self, roi_heads, features, detections, seeds):
        """Per image: rows of the jittered boxes, their variances, and the mask of stable boxes."""
        rows = rows_where([d.scores > self.jitter.score_thresh for d in detections])
        log_mean_count("num_reg_candidates", rows)
        chosen = [d[r] for d, r in zip(detections, rows)]
        variances = self.jitter.variance(roi_heads, features, chosen, seeds)
        stable = [
            torch.zeros_like(d.scores, dtype=torch.bool).index_copy_(
                0, r, v < self.jitter.variance_thresh
            )
            for d, r, v in zip(detections, rows, variances)
        ]
        return rows, variances, stable


def rows_where(masks: List[torch.Tensor]) -> List[torch.Tensor]:
    """The (n,) int64 rows of each (m,) bool mask, waiting for the device once for all of them.

    Indexing with rows does not wait, while a mask would be read again for every field.
    """
    if not masks:
        return []
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        torch.argsort(mask.byte(), descending=True, stable=True)[:count]
        for mask, count in zip(masks, counts)
    ]


def carry(boxes: Boxes, matrix: torch.Tensor, image_size: Tuple[int, int]) -> Boxes:
    """Boxes of one image in another view of it.

    Args:
        boxes: (n, 4) absolute XYXY in the view that ``matrix`` starts from.
        matrix: (3, 3) affine map between the two views, absolute pixels.
        image_size: (height, width) of the target view.

    Returns:
        (n, 4) in the target view: one enclosing box each, clipped to the view. A box that left
        the view is empty.
    """
    return Boxes(clip_boxes(transform_boxes(boxes.tensor, matrix), image_size))


def _targets(detections: Instances, boxes: Boxes, image_size, rows: torch.Tensor) -> Instances:
    """Rows of detections, moved to ``boxes``, under the names of ground truth."""
    return Instances(image_size, gt_boxes=boxes[rows], gt_classes=detections.pred_classes[rows])


def _in_parts(values: list, count: int) -> List[list]:
    """A list in ``count`` lists of equal length."""
    size = len(values) // count
    return [values[i * size : (i + 1) * size] for i in range(count)]


def log_mean_count(name: str, per_image: List[Sized]) -> None:
    """Logs the mean number of boxes per image."""
    get_event_storage().put_scalar(name, sum(map(len, per_image)) / max(len(per_image), 1))
