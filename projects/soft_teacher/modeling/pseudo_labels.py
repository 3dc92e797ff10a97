"""From the teacher's detections to the two sets of pseudo boxes, and on to the student's view."""

from typing import List, Sized

import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ..utils.checks import check_fraction
from .families.base import TeacherPass
from .step_record import PseudoLabels, TeacherBoxes
from .views import ViewTransport

__all__ = ["PseudoLabeler", "log_mean_count", "rows_where"]


class PseudoLabeler:
    """Chooses G_cls by foreground score and G_reg by box regression variance."""

    @configurable
    def __init__(
        self,
        *,
        score_thresh: float = 0.9,
        candidate_thresh: float = 0.5,
        variance_thresh: float = 0.02,
        measure_stability: bool = True,
    ):
        """
        Args:
            score_thresh: tau_cls, boxes scored above it are foreground (Table 9).
            candidate_thresh: only boxes scored above it are measured (0.5 in the paper).
            variance_thresh: tau_var, boxes of a smaller variance make up G_reg (Table 10).
            measure_stability: without it G_reg = G_cls.

        Raises:
            ConfigError: for a threshold outside (0, 1).
        """
        check_fraction("PseudoLabeler.score_thresh", score_thresh)
        check_fraction("PseudoLabeler.candidate_thresh", candidate_thresh)
        check_fraction("PseudoLabeler.variance_thresh", variance_thresh)
        self.score_thresh = score_thresh
        self.candidate_thresh = candidate_thresh
        self.variance_thresh = variance_thresh
        self.measure_stability = measure_stability

    @classmethod
    def from_config(cls, cfg):
        jitter = cfg.SOFT_TEACHER.JITTER
        return {
            "score_thresh": cfg.SOFT_TEACHER.SCORE_THRESH,
            "candidate_thresh": jitter.SCORE_THRESH,
            "variance_thresh": jitter.VARIANCE_THRESH,
            "measure_stability": jitter.ENABLED,
        }

    @property
    def lowest_score(self) -> float:
        """Detections scored at most so are neither pseudo boxes nor measured."""
        if not self.measure_stability:
            return self.score_thresh
        return min(self.score_thresh, self.candidate_thresh)

    @torch.no_grad()
    def __call__(
        self, teacher_pass: TeacherPass, transport: ViewTransport, seeds: list[int]
    ) -> PseudoLabels:
        """Waits for the device twice, once without measuring, however many images there are.

        Args:
            teacher_pass: over the weak views.
            transport: from those to the strong views.
            seeds: per image, of its measurement.

        Returns:
            PseudoLabels in the strong view; boxes that left it are dropped.
        """
        detections = teacher_pass.detections
        confident = [d.scores > self.score_thresh for d in detections]
        if not self.measure_stability:
            nothing = [d.scores.new_zeros(0) for d in detections]
            candidates, variances, stable = [n.long() for n in nothing], nothing, confident
        else:
            candidates, variances, stable = self._measured(teacher_pass, seeds)
        moved = transport.to_strong([d.pred_boxes for d in detections])
        inside = [boxes.nonempty() for boxes in moved]
        chosen = [*confident, *stable]
        kept = [mask & i for mask, i in zip(chosen, inside * 2)]
        confident, stable, g_cls, g_reg = _in_parts(rows_where(chosen + kept), 4)
        log_mean_count("num_detections", detections)
        log_mean_count("num_cls_boxes", confident)
        log_mean_count("num_reg_boxes", stable)
        sizes = transport.strong_sizes
        return PseudoLabels(
            [_targets(*x) for x in zip(detections, moved, sizes, g_cls)],
            [_targets(*x) for x in zip(detections, moved, sizes, g_reg)],
            [TeacherBoxes(*x) for x in zip(detections, confident, candidates, variances, stable)],
        )

    def _measured(self, teacher_pass: TeacherPass, seeds: list[int]):
        """Per image: rows of the measured boxes, their variances, and the mask of stable boxes."""
        detections = teacher_pass.detections
        rows = rows_where([d.scores > self.candidate_thresh for d in detections])
        log_mean_count("num_reg_candidates", rows)
        variances = teacher_pass.variances(rows, seeds)
        stable = [
            torch.zeros_like(d.scores, dtype=torch.bool).index_copy_(0, r, v < self.variance_thresh)
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
