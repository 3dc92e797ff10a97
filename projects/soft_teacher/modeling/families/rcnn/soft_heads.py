"""What ROI heads share that learn from pseudo boxes: how much each of their samples counts."""

from collections.abc import Callable

import torch
from detectron2.config import configurable
from detectron2.modeling.matcher import Matcher
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
from .samples import PseudoSamples

__all__ = ["REG_SCOPE", "ScoreWithTeacher", "SoftHeads"]

REG_NORMALIZERS = ("foreground", "samples")
AVERAGES = ("image", "gpu")
# Where Detectron2 logs the numbers of S_reg. A scope inside another takes its place.
REG_SCOPE = "unsup/reg"
# The teacher's background probabilities of boxes of the strong view.
ScoreWithTeacher = Callable[[list[Boxes]], list[torch.Tensor]]


class SoftHeads(LearnsMasks):
    """Mixin of Detectron2's ROI heads: weights of the samples of unlabeled images, and masks.

    Attributes:
        predictors: the box predictor of every stage; the last one detects.
    """

    predictors: list[SoftFastRCNNOutputLayers]

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
            kwargs: of :class:`.LearnsMasks` and of the stock heads.

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        super().__init__(**kwargs)
        check_choice("SoftHeads.indicator", indicator, INDICATORS)
        check_choice("SoftHeads.cls_formula", cls_formula, FORMULAS)
        check_choice("SoftHeads.reg_normalizer", reg_normalizer, REG_NORMALIZERS)
        check_choice("SoftHeads.average", average, AVERAGES)
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

    def sample(self, proposals: list[Instances], pseudo: PseudoLabels) -> tuple[list, list, list]:
        """Samples RPN proposals of unlabeled images twice.

        Args:
            proposals: per image (strong view).
            pseudo: G_cls and G_reg in the strong view.

        Returns:
            S_cls, matched to G_cls; and what :meth:`ForegroundSampler.sample` returns for G_reg.
        """
        classification = self.label_and_sample_proposals(proposals, pseudo.classification)
        with get_event_storage().name_scope(REG_SCOPE):
            regression, sizes = self.foregrounds.sample(proposals, pseudo.regression)
        log_mean_count("num_reg_samples", regression)
        return classification, regression, sizes

    def weighted_losses(
        self,
        predictor: SoftFastRCNNOutputLayers,
        matcher: Matcher,
        predictions: tuple[torch.Tensor, torch.Tensor],
        samples: PseudoSamples,
        pseudo: PseudoLabels,
        score_with_teacher: ScoreWithTeacher,
    ) -> tuple[dict[str, torch.Tensor], list[torch.Tensor | None]]:
        """Losses of one box head on unlabeled images (Eq. 4, 5 and 10).

        Args:
            predictor, matcher: of the box head.
            predictions: what it predicts for the rows of ``samples``.
            samples: matched to the pseudo boxes.
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: called only if the indicator needs it.

        Returns:
            the predictor's losses; and per image, r of each box of S_cls, None for "none".
        """
        r = self._reliabilities(predictor, predictions, samples, pseudo, score_with_teacher)
        cls_weights = self._classification_weights(samples.classification, r)
        if pseudo.ignored:
            cls_weights = self._without_ignored(cls_weights, samples, pseudo.ignored, matcher)
        reg_weights = self._regression_weights(samples)
        for row, cls_weight, reg_weight in zip(samples.rows, cls_weights, reg_weights):
            row.cls_weight = torch.cat([cls_weight, torch.zeros_like(reg_weight)])
            row.reg_weight = torch.cat([torch.zeros_like(cls_weight), reg_weight])
        return predictor.losses(predictions, samples.rows), r

    def mean_reliability(
        self, samples: list[Instances], r: list[torch.Tensor | None]
    ) -> torch.Tensor | None:
        """Mean r of the backgrounds of S_cls, a scalar on the device; None for "none"."""
        if self.indicator == "none":
            return None
        background = torch.cat([s.gt_classes for s in samples]) == self.num_classes
        return (torch.cat(r) * background).sum() / background.sum().clamp(min=1)

    def background_probabilities(self, predictor, predictions, rows) -> list[torch.Tensor]:
        """Per image, the (n,) background probability of each row, float32.

        Args:
            predictions: (scores, deltas) of ``predictor`` for ``rows``.
        """
        scores, deltas = predictions
        probs = predictor.predict_probs((scores.float(), deltas), rows)
        return [p[:, self.num_classes] for p in probs]

    def _reliabilities(self, predictor, predictions, samples, pseudo, score_with_teacher):
        """Per image, r of Eq. 5 for each box of S_cls; None for "none"."""
        if self.indicator == "none":
            return [None] * len(samples.rows)
        boxes = [s.proposal_boxes for s in samples.classification]
        teacher = student = iou = [None] * len(boxes)
        if self.indicator in NEEDS_TEACHER:
            teacher = score_with_teacher(boxes)
        if self.indicator in ("bg_student", "pred_diff"):
            scored = self.background_probabilities(predictor, predictions, samples.rows)
            student = [p[: len(b)] for p, b in zip(scored, boxes)]
        if self.indicator in ("iou", "reverse_iou"):
            iou = [overlap(b, g.gt_boxes) for b, g in zip(boxes, pseudo.classification)]
        return [
            reliability(self.indicator, teacher_bg=t, student_bg=s, iou=i)
            for t, s, i in zip(teacher, student, iou)
        ]

    def _classification_weights(self, samples, r) -> list[torch.Tensor]:
        foreground = [s.gt_classes < self.num_classes for s in samples]
        if self.average == "gpu":
            all_r = None if self.indicator == "none" else torch.cat(r)
            weights = classification_weights(torch.cat(foreground), all_r, self.cls_formula)
            return list(weights.split([len(s) for s in samples]))
        return [
            classification_weights(f, image_r, self.cls_formula) / len(samples)
            for f, image_r in zip(foreground, r)
        ]

    def _without_ignored(self, weights, samples, ignored, matcher) -> list[torch.Tensor]:
        """Weights of 0 for backgrounds that would be foregrounds of an ignored box."""
        kept = [
            (s.gt_classes < self.num_classes) | is_background(s.proposal_boxes, i, matcher)
            for s, i in zip(samples.classification, ignored)
        ]
        return [w.where(mask, 0) for w, mask in zip(weights, kept)]

    def _regression_weights(self, samples) -> list[torch.Tensor]:
        """1 / count for every foreground of S_reg; the count is Eq. 10's or the released one."""
        ones = [(r.gt_classes < self.num_classes).float() for r in samples.regression]
        foreground = self.reg_normalizer == "foreground"
        counts = [one.sum() for one in ones] if foreground else samples.sizes
        if self.average == "gpu":
            counts = [sum(counts)] * len(counts)
        else:
            counts = [count * len(counts) for count in counts]
        return [one / count.clamp(min=1) for one, count in zip(ones, counts)]
