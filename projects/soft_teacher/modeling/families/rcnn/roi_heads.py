"""ROI heads that learn from pseudo boxes with teacher-scored backgrounds."""

from typing import Callable, Dict, List, Optional, Tuple

import torch
from detectron2.config import configurable
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage

from ....utils.checks import check_choice
from ...background_weights import (
    FORMULAS,
    INDICATORS,
    NEEDS_TEACHER,
    classification_weights,
    overlap,
    reliability,
)
from ...pseudo_labels import log_mean_count
from ...step_record import PseudoLabels
from .fast_rcnn import SoftFastRCNNOutputLayers
from .foregrounds import ForegroundSampler

__all__ = ["SoftTeacherROIHeads"]

REG_NORMALIZERS = ("foreground", "samples")
AVERAGES = ("image", "gpu")


@ROI_HEADS_REGISTRY.register()
class SoftTeacherROIHeads(StandardROIHeads):
    """StandardROIHeads (boxes only) with a second way to learn: :meth:`pseudo_losses`.

    Labeled images go through the stock forward; the state dict is the stock one.
    """

    @configurable
    def __init__(
        self,
        *,
        indicator: str = "bg_teacher",
        cls_formula: str = "paper",
        reg_normalizer: str = "foreground",
        average: str = "image",
        **kwargs,
    ):
        """
        Args:
            indicator: reliability of a background box, a row of Table 8, see
                :func:`~soft_teacher.modeling.background_weights.reliability`; "none" is
                Detectron2's plain mean over all samples.
            cls_formula: "paper" (Eq. 4, 5) or "reference" (released code).
            reg_normalizer: "foreground" divides by the regression foregrounds (Eq. 10), "samples"
                by all samples of that draw (released code).
            average: "image" normalises within each image and then averages over images (Eq. 3),
                "gpu" normalises over all images of the GPU at once (released code).
            kwargs: of StandardROIHeads.

        Raises:
            ConfigError: for an unknown choice, naming the key.
        """
        super().__init__(**kwargs)
        check_choice("SoftTeacherROIHeads.indicator", indicator, INDICATORS)
        check_choice("SoftTeacherROIHeads.cls_formula", cls_formula, FORMULAS)
        check_choice("SoftTeacherROIHeads.reg_normalizer", reg_normalizer, REG_NORMALIZERS)
        check_choice("SoftTeacherROIHeads.average", average, AVERAGES)
        self.indicator = indicator
        self.cls_formula = cls_formula
        self.reg_normalizer = reg_normalizer
        self.average = average
        self.foregrounds = ForegroundSampler.like(self)

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        ret["indicator"] = cfg.SOFT_TEACHER.INDICATOR
        ret["cls_formula"] = cfg.SOFT_TEACHER.CLS_FORMULA
        ret["reg_normalizer"] = cfg.SOFT_TEACHER.REG_NORMALIZER
        ret["average"] = cfg.SOFT_TEACHER.AVERAGE
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = SoftFastRCNNOutputLayers(cfg, ret["box_head"].output_shape)
        return ret

    def predict(self, features: Dict[str, torch.Tensor], boxes: List[Boxes]):
        """Raw (scores, deltas) of the box head for given boxes, in one pass.

        Args:
            features: feature maps of a batch of images.
            boxes: per image, absolute XYXY in the frame of those images.
        """
        features = [features[f] for f in self.box_in_features]
        return self.box_predictor(self.box_head(self.box_pooler(features, boxes)))

    def background_scores(self, predictions, boxes: List[Boxes]) -> List[torch.Tensor]:
        """Per image, the (n,) background probability of each box, float32.

        Args:
            predictions: what :meth:`predict` returned for ``boxes``.
        """
        scores, deltas = predictions
        probs = self.box_predictor.predict_probs((scores.float(), deltas), boxes)
        return [p[:, self.num_classes] for p in probs]

    def pseudo_losses(
        self,
        features: Dict[str, torch.Tensor],
        proposals: List[Instances],
        pseudo: PseudoLabels,
        score_with_teacher: Callable[[List[Boxes]], List[torch.Tensor]],
    ) -> Tuple[Dict[str, torch.Tensor], Optional[torch.Tensor]]:
        """Losses of unlabeled images (Eq. 4, 5 and 10). One pass of the box head for both.

        Args:
            features: the student's feature maps of the strong views.
            proposals: per image, RPN proposals (strong view).
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: maps boxes of the strong view to the teacher's background
                probabilities; called only if the indicator needs it.

        Returns:
            dict with "loss_cls" and "loss_box_reg", as the stock heads name them; and the mean r
            of the background samples, a scalar on the device, None for the indicator "none".
        """
        samples = self.label_and_sample_proposals(proposals, pseudo.classification)
        with get_event_storage().name_scope("reg"):
            regression, sizes = self.foregrounds.draw(proposals, pseudo.regression)
        rows = [_stack(s, r) for s, r in zip(samples, regression)]
        predictions = self.predict(features, [r.proposal_boxes for r in rows])
        reliabilities = self._reliabilities(samples, rows, predictions, pseudo, score_with_teacher)
        cls_weights = self._classification_weights(samples, reliabilities)
        reg_weights = self._regression_weights(regression, sizes)
        for row, cls_weight, reg_weight in zip(rows, cls_weights, reg_weights):
            row.cls_weight = torch.cat([cls_weight, torch.zeros_like(reg_weight)])
            row.reg_weight = torch.cat([torch.zeros_like(cls_weight), reg_weight])
        log_mean_count("num_reg_samples", regression)
        losses = self.box_predictor.losses(predictions, rows)
        return losses, self._mean_reliability(samples, reliabilities)

    def _reliabilities(self, samples, rows, predictions, pseudo, score_with_teacher):
        """Per image, r of Eq. 5 for each classification sample; None for "none"."""
        if self.indicator == "none":
            return [None] * len(samples)
        boxes = [s.proposal_boxes for s in samples]
        teacher = student = iou = [None] * len(samples)
        if self.indicator in NEEDS_TEACHER:
            teacher = score_with_teacher(boxes)
        if self.indicator in ("bg_student", "pred_diff"):
            scored = self.background_scores(predictions, [r.proposal_boxes for r in rows])
            student = [p[: len(s)] for p, s in zip(scored, samples)]
        if self.indicator in ("iou", "reverse_iou"):
            iou = [overlap(b, g.gt_boxes) for b, g in zip(boxes, pseudo.classification)]
        return [
            reliability(self.indicator, teacher_bg=t, student_bg=s, iou=i)
            for t, s, i in zip(teacher, student, iou)
        ]

    def _classification_weights(self, samples, reliabilities) -> List[torch.Tensor]:
        foreground = [s.gt_classes < self.num_classes for s in samples]
        if self.average == "gpu":
            r = None if reliabilities[0] is None else torch.cat(reliabilities)
            weights = classification_weights(torch.cat(foreground), r, self.cls_formula)
            return list(weights.split([len(s) for s in samples]))
        return [
            classification_weights(f, r, self.cls_formula) / len(samples)
            for f, r in zip(foreground, reliabilities)
        ]

    def _regression_weights(self, regression, sizes) -> List[torch.Tensor]:
        """1 / count for every regression foreground; the count is Eq. 10's or the released one."""
        ones = [torch.ones_like(r.gt_classes, dtype=torch.float32) for r in regression]
        counts = [one.sum() for one in ones] if self.reg_normalizer == "foreground" else sizes
        if self.average == "gpu":
            counts = [sum(counts)] * len(counts)
        else:
            counts = [count * len(counts) for count in counts]
        return [one / count.clamp(min=1) for one, count in zip(ones, counts)]

    def _mean_reliability(self, samples, reliabilities) -> Optional[torch.Tensor]:
        if reliabilities[0] is None:
            return None
        background = torch.cat([s.gt_classes for s in samples]) == self.num_classes
        r = torch.cat(reliabilities)
        return (r * background).sum() / background.sum().clamp(min=1)


def _stack(samples: Instances, regression: Instances) -> Instances:
    """Classification samples followed by regression foregrounds, with the fields losses() reads."""
    parts = (samples, regression)
    boxes = [p.proposal_boxes for p in parts]
    # Without pseudo boxes there are no gt_boxes; the value is never read then.
    targets = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in parts]
    return Instances(
        samples.image_size,
        proposal_boxes=Boxes.cat(boxes),
        gt_boxes=Boxes.cat(targets),
        gt_classes=torch.cat([p.gt_classes for p in parts]),
    )
