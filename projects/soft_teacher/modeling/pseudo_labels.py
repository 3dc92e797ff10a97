"""From the teacher's detections to the two sets of pseudo boxes in the student's view."""

import math
from collections.abc import Sized
from fractions import Fraction

import torch
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ..utils.checks import check_fraction, shown
from ..utils.errors import ConfigError
from .families.base import TeacherPass
from .mask_transport import TransportedMasks
from .step_record import PseudoLabels, TeacherBoxes
from .thresholds import DensityThresholds
from .views import ViewTransport

__all__ = ["PseudoLabeler", "log_mean_count", "rows_where"]


class PseudoLabeler(nn.Module):
    """Chooses G_cls by foreground score and G_reg by box regression variance.

    A module for its state alone, which belongs to a run and not to its weights.
    """

    @configurable
    def __init__(
        self,
        *,
        score_thresh: float = 0.9,
        candidate_thresh: float = 0.5,
        variance_thresh: float = 0.02,
        measure_stability: bool = True,
        stable_share: float = 0.0,
        by_density: bool = False,
        density: DensityThresholds | None = None,
    ):
        """
        Args:
            score_thresh: tau_cls, boxes scored above it are foreground (Table 9).
            candidate_thresh: only boxes scored above it are measured (0.5 in the paper).
            variance_thresh: tau_var, boxes of a smaller variance make up G_reg (Table 10).
            measure_stability: without it G_reg = G_cls, or what ``density`` chooses.
            stable_share: in place of variance_thresh, the share of an image's candidates, rounded
                up, that make up G_reg: those of the smallest variances, and all that tie with the
                last of them, but none whose variance is infinite or NaN; 0 for the threshold.
            by_density: use ``density``, thresholds for each class, in place of score_thresh,
                which is where they start; the boxes of G_cls are then the candidates.
            density: read by_density alone; the defaults of the class if None.

        Raises:
            ConfigError: for a threshold outside (0, 1), a share outside [0, 1], or two ways to
                choose G_reg.
        """
        super().__init__()
        check_fraction("PseudoLabeler.score_thresh", score_thresh)
        check_fraction("PseudoLabeler.candidate_thresh", candidate_thresh)
        check_fraction("PseudoLabeler.variance_thresh", variance_thresh)
        self.score_thresh = score_thresh
        self.candidate_thresh = candidate_thresh
        self.variance_thresh = variance_thresh
        if not 0 <= stable_share <= 1:
            raise ConfigError(
                f"PseudoLabeler.stable_share must lie in [0, 1], got {shown(stable_share)}"
            )
        self.measure_stability = measure_stability
        self.stable_share = stable_share
        self.density = (density or DensityThresholds()) if by_density else None
        if measure_stability and self.density is not None and self.density.regresses:
            raise ConfigError(
                "DensityThresholds.regression chooses boxes in place of box jittering: set it to "
                "0, or PseudoLabeler.measure_stability to False"
            )

    @classmethod
    def from_config(cls, cfg):
        jitter = cfg.SOFT_TEACHER.JITTER
        return {
            "score_thresh": cfg.SOFT_TEACHER.SCORE_THRESH,
            "candidate_thresh": jitter.SCORE_THRESH,
            "variance_thresh": jitter.VARIANCE_THRESH,
            "measure_stability": jitter.ENABLED,
            "stable_share": jitter.STABLE_SHARE,
            "by_density": cfg.SOFT_TEACHER.DENSITY.ENABLED,
            "density": DensityThresholds(cfg),
        }

    @property
    def lowest_score(self) -> float:
        """Detections with this score or a lower one are neither pseudo boxes nor measured."""
        if self.density is not None:
            return self.density.floor
        if not self.measure_stability:
            return self.score_thresh
        return min(self.score_thresh, self.candidate_thresh)

    @torch.no_grad()
    def forward(
        self, teacher_pass: TeacherPass, transport: ViewTransport, seeds: list[int]
    ) -> PseudoLabels:
        """Two host-device syncs, one without measuring, for any number of images.

        Args:
            teacher_pass: over the weak views.
            transport: from those to the strong views.
            seeds: per image, of its measurement.

        Returns:
            PseudoLabels in the strong view, with masks where the detections have them; boxes
            outside it are dropped.
        """
        detections = teacher_pass.detections
        confident, ignored, stable = self._by_score(detections)
        if not self.measure_stability:
            nothing = [d.scores.new_zeros(0) for d in detections]
            candidates, variances = [n.long() for n in nothing], nothing
        else:
            measured = confident
            if self.density is None:
                measured = [d.scores > self.candidate_thresh for d in detections]
            candidates, variances, stable = self._measured(teacher_pass, measured, seeds)
        moved = transport.to_strong([d.pred_boxes for d in detections])
        inside = [boxes.nonempty() for boxes in moved]
        chosen = [*confident, *stable]
        inner = [mask & i for mask, i in zip(chosen + ignored, inside * 3)]
        rows = rows_where(chosen + inner)
        n = len(detections)
        confident, stable, g_cls, g_reg, left_out = (rows[i * n : (i + 1) * n] for i in range(5))
        log_mean_count("num_detections", detections)
        log_mean_count("num_cls_boxes", confident)
        log_mean_count("num_reg_boxes", stable)
        found = [detections, moved, transport.masks(detections), transport.strong_sizes]
        return PseudoLabels(
            [_targets(*x) for x in zip(*found, g_cls)],
            [_targets(*x) for x in zip(*found, g_reg)],
            [TeacherBoxes(*x) for x in zip(detections, confident, candidates, variances, stable)],
            [boxes[rows] for boxes, rows in zip(moved, left_out)],
        )

    def _by_score(self, detections: list[Instances]):
        """Per image, masks of G_cls, of what is ignored (none if nothing is), and of G_reg."""
        density = self.density
        if density is None:
            confident = [d.scores > self.score_thresh for d in detections]
            return confident, [], confident
        density.count_scores(detections)
        above = [density.above(d) for d in detections]
        confident = [a["foreground"] for a in above]
        ignored = [a["ignore"] & ~a["foreground"] for a in above] if density.ignores else []
        stable = [a["regression"] for a in above] if density.regresses else confident
        return confident, ignored, stable

    def _measured(self, teacher_pass: TeacherPass, masks: list[torch.Tensor], seeds: list[int]):
        """Per image: rows of the measured boxes, their variances, and the mask of stable boxes."""
        detections = teacher_pass.detections
        rows = rows_where(masks)
        log_mean_count("num_reg_candidates", rows)
        variances = teacher_pass.variances(rows, seeds)
        stable = [
            torch.zeros_like(d.scores, dtype=torch.bool).index_copy_(0, r, self._are_stable(v))
            for d, r, v in zip(detections, rows, variances)
        ]
        return rows, variances, stable

    def _are_stable(self, variances: torch.Tensor) -> torch.Tensor:
        if not self.stable_share or not len(variances):
            return variances < self.variance_thresh
        # Of the decimal number, of which a float may lie just above.
        kept = math.ceil(Fraction(str(self.stable_share)) * len(variances))
        known = variances.nan_to_num(nan=math.inf, posinf=math.inf)
        return (known <= known.kthvalue(kept).values) & known.isfinite()


def rows_where(masks: list[torch.Tensor]) -> list[torch.Tensor]:
    """The (n,) int64 rows of each (m,) bool mask, with one host-device sync for all of them.

    Indexing with rows is no sync, indexing with a mask is one for every field.
    """
    if not masks:
        return []
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [
        torch.argsort(mask.byte(), descending=True, stable=True)[:count]
        for mask, count in zip(masks, counts)
    ]


def _targets(
    detections: Instances,
    boxes: Boxes,
    masks: TransportedMasks | None,
    image_size: tuple[int, int],
    rows: torch.Tensor,
) -> Instances:
    """Rows of detections, moved to ``boxes``, under the names of ground truth."""
    found = Instances(image_size, gt_boxes=boxes[rows], gt_classes=detections.pred_classes[rows])
    if masks is not None:
        found.gt_masks = masks[rows]
    return found


def log_mean_count(name: str, per_image: list[Sized]) -> None:
    """Logs the mean number of boxes per image."""
    get_event_storage().put_scalar(name, sum(map(len, per_image)) / max(len(per_image), 1))
