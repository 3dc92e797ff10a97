"""ROI heads that learn from pseudo boxes with teacher-scored backgrounds."""

from collections.abc import Callable

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
    is_background,
    overlap,
    reliability,
)
from ...pseudo_labels import log_mean_count
from ...step_record import PseudoLabels
from .fast_rcnn import SoftFastRCNNOutputLayers
from .foregrounds import ForegroundSampler
from .pseudo_masks import LearnsMasks

__all__ = ["SoftTeacherROIHeads"]

REG_NORMALIZERS = ("foreground", "samples")
AVERAGES = ("image", "gpu")


@ROI_HEADS_REGISTRY.register()
class SoftTeacherROIHeads(LearnsMasks, StandardROIHeads):
    """StandardROIHeads, with a mask head or without, and :meth:`pseudo_losses` of unlabeled images.

    Labeled images go through the stock forward; the state dict is the stock one.
    """

    box_loss_names = ("loss_cls", "loss_box_reg")

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
                by these and the backgrounds sampled with them (released code).
            average: "image" normalizes within each image and then averages over images (Eq. 3),
                "gpu" normalizes over all images of the GPU at once (released code).
            kwargs: of :class:`.LearnsMasks` and of StandardROIHeads.

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
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
        return {
            **super().from_config(cfg, input_shape),
            "indicator": cfg.SOFT_TEACHER.INDICATOR,
            "cls_formula": cfg.SOFT_TEACHER.CLS_FORMULA,
            "reg_normalizer": cfg.SOFT_TEACHER.REG_NORMALIZER,
            "average": cfg.SOFT_TEACHER.AVERAGE,
        }

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = SoftFastRCNNOutputLayers(cfg, ret["box_head"].output_shape)
        return ret

    def predict(self, features: dict[str, torch.Tensor], boxes: list[Boxes]):
        """Raw (scores, deltas) of the box head, in one pass.

        Args:
            features: feature maps of a batch of images.
            boxes: per image, absolute XYXY in the frame of those images.
        """
        features = [features[f] for f in self.box_in_features]
        return self.box_predictor(self.box_head(self.box_pooler(features, boxes)))

    def background_scores(self, predictions, boxes: list[Boxes]) -> list[torch.Tensor]:
        """Per image, the (n,) background probability of each box, float32.

        Args:
            predictions: what :meth:`predict` returned for ``boxes``.
        """
        scores, deltas = predictions
        probs = self.box_predictor.predict_probs((scores.float(), deltas), boxes)
        return [p[:, self.num_classes] for p in probs]

    def pseudo_losses(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        pseudo: PseudoLabels,
        score_with_teacher: Callable[[list[Boxes]], list[torch.Tensor]],
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Losses of unlabeled images (Eq. 4, 5 and 10), with one pass of each head.

        Args:
            features: the student's feature maps of the strong views.
            proposals: per image, RPN proposals (strong view).
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: maps boxes of the strong view to the teacher's background
                probabilities; called only if the indicator needs it.

        Returns:
            dict with ``pseudo_loss_names``, as the stock heads name them; and the mean r of the
            background samples, a scalar on the device, None for the indicator "none".
        """
        samples = self.label_and_sample_proposals(proposals, pseudo.classification)
        with get_event_storage().name_scope("reg"):
            regression, sizes = self.foregrounds.sample(proposals, pseudo.regression)
        rows = [_stack(s, r) for s, r in zip(samples, regression)]
        predictions = self.predict(features, [r.proposal_boxes for r in rows])
        reliabilities = self._reliabilities(samples, rows, predictions, pseudo, score_with_teacher)
        cls_weights = self._classification_weights(samples, reliabilities)
        if pseudo.ignored:
            cls_weights = self._without_ignored(cls_weights, samples, pseudo.ignored)
        reg_weights = self._regression_weights(regression, sizes)
        for row, cls_weight, reg_weight in zip(rows, cls_weights, reg_weights):
            row.cls_weight = torch.cat([cls_weight, torch.zeros_like(reg_weight)])
            row.reg_weight = torch.cat([torch.zeros_like(cls_weight), reg_weight])
        log_mean_count("num_reg_samples", regression)
        mean = None
        if self.indicator != "none":
            background = torch.cat([s.gt_classes for s in samples]) == self.num_classes
            mean = (torch.cat(reliabilities) * background).sum() / background.sum().clamp(min=1)
        losses = self.box_predictor.losses(predictions, rows)
        losses.update(self.pseudo_mask_losses(features, samples, regression))
        return losses, mean

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

    def _classification_weights(self, samples, reliabilities) -> list[torch.Tensor]:
        foreground = [s.gt_classes < self.num_classes for s in samples]
        if self.average == "gpu":
            r = None if self.indicator == "none" else torch.cat(reliabilities)
            weights = classification_weights(torch.cat(foreground), r, self.cls_formula)
            return list(weights.split([len(s) for s in samples]))
        return [
            classification_weights(f, r, self.cls_formula) / len(samples)
            for f, r in zip(foreground, reliabilities)
        ]

    def _without_ignored(self, weights, samples, ignored) -> list[torch.Tensor]:
        """Weights of 0 for backgrounds that would be foregrounds of an ignored box."""
        kept = [
            (s.gt_classes < self.num_classes)
            | is_background(s.proposal_boxes, i, self.proposal_matcher)
            for s, i in zip(samples, ignored)
        ]
        return [w.where(mask, 0) for w, mask in zip(weights, kept)]

    def _regression_weights(self, regression, sizes) -> list[torch.Tensor]:
        """1 / count for every regression foreground; the count is Eq. 10's or the released one."""
        ones = [torch.ones_like(r.gt_classes, dtype=torch.float32) for r in regression]
        counts = [one.sum() for one in ones] if self.reg_normalizer == "foreground" else sizes
        if self.average == "gpu":
            counts = [sum(counts)] * len(counts)
        else:
            counts = [count * len(counts) for count in counts]
        return [one / count.clamp(min=1) for one, count in zip(ones, counts)]


def _stack(samples: Instances, regression: Instances) -> Instances:
    """Classification samples followed by regression foregrounds, with the fields losses() reads."""
    parts = (samples, regression)
    boxes = [p.proposal_boxes for p in parts]
    # Without pseudo boxes there are no gt_boxes; the value is not used then.
    targets = [p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes for p in parts]
    return Instances(
        samples.image_size,
        proposal_boxes=Boxes.cat(boxes),
        gt_boxes=Boxes.cat(targets),
        gt_classes=torch.cat([p.gt_classes for p in parts]),
    )
