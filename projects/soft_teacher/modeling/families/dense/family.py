"""Dense detectors as families: every anchor, or point, is a sample, and scores are sigmoids."""

import torch
from detectron2.config import configurable
from detectron2.modeling import RetinaNet
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.nn import functional as F

from ....utils.checks import check_choice
from ....utils.errors import ConfigError
from ...background_weights import FORMULAS, INDICATORS, NEEDS_TEACHER, overlap, reliability
from ...step_record import PseudoLabels
from ...views import ViewTransport
from ..base import FAMILY_REGISTRY, DetectorFamily, PseudoLosses, Thresholds
from .losses import background_weights, classification_loss, is_positive
from .normalizers import LABELED, UNLABELED, LossNormalizers
from .predictions import Predictions, background_maps, predict
from .teacher_pass import DenseTeacherPass

__all__ = ["DenseFamily", "FCOSFamily", "RetinaNetFamily"]

STABILITIES = ("spread", "centerness")
# There is one way to normalize and average these losses, see normalizers.py, and one NMS.
ONLY = {"REG_NORMALIZER": "foreground", "AVERAGE": "image", "SOFT_NMS": "none"}


class DenseFamily(DetectorFamily, nn.Module):
    """A dense detector of Detectron2's, whose losses are sums over places.

    Both sums are divided by a running mean of the positives, see :class:`.LossNormalizers`, which
    is the module's only state.

    Attributes:
        detector_class: what it wraps.
        indicators: that make sense for it.
        stability: what measures a box, "spread" of what NMS suppressed onto it, or "centerness".
        positives: of an image, before any is seen, as in Detectron2.
    """

    class_layers = "head.cls_score."
    thresholds = Thresholds(score=0.5, candidate=0.3, variance=0.1)
    detector_class: type[DenseDetector]
    indicators = INDICATORS
    stability = "spread"
    positives: float

    @configurable
    def __init__(self, *, indicator: str = "bg_teacher", cls_formula: str = "paper"):
        """
        Args:
            indicator: reliability of a background (Table 8), see
                :func:`~soft_teacher.modeling.background_weights.reliability`; "none" weights all
                alike. A background score is 1 - the highest probability of a class in a cell, that
                of the teacher in the weak view.
            cls_formula: see :func:`.losses.background_weights`.

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        super().__init__()
        check_choice("DenseFamily.indicator", indicator, self.indicators)
        check_choice("DenseFamily.cls_formula", cls_formula, FORMULAS)
        self.indicator = indicator
        self.cls_formula = cls_formula
        self.normalizers = LossNormalizers(self.positives)

    @classmethod
    def from_config(cls, cfg):
        for key, value in ONLY.items():
            check_choice(f"SOFT_TEACHER.{key}", cfg.SOFT_TEACHER[key], [value])
        ours = cfg.SOFT_TEACHER
        return {"indicator": ours.INDICATOR, "cls_formula": ours.CLS_FORMULA}

    def counted(self) -> LossNormalizers:
        return self.normalizers

    def check(self, student: nn.Module) -> None:
        wanted = self.detector_class
        if not isinstance(student, wanted):
            found = type(student).__name__
            raise ConfigError(f"{type(self).__name__} is for {wanted.__name__}, got {found}")

    def num_classes(self, network: nn.Module) -> int:
        return network.num_classes

    def score_floor(self, network: nn.Module) -> float:
        return network.test_score_thresh

    def questions_to_teacher(self, student: nn.Module) -> list[str]:
        asks = self.indicator in NEEDS_TEACHER
        return [f"DenseFamily.indicator, now '{self.indicator}', to 'none'"] if asks else []

    def losses(self, student, encoded, inputs) -> dict[str, torch.Tensor]:
        found = predict(student, encoded)
        truth = [x["instances"].to(student.device) for x in inputs]
        labels, boxes = _labels(student, found, truth)
        losses = [
            self._classification(student, found, labels, None),
            *self.box_losses(student, found, labels, boxes),
        ]
        return self._normalized(LABELED, student, losses, labels, truth)

    def pseudo_losses(
        self, student, encoded, inputs, labels, teacher_pass, transport
    ) -> PseudoLosses:
        found = predict(student, encoded)
        cls_labels, _ = _labels(student, found, labels.classification)
        r = self._reliability(student, found, labels, teacher_pass, transport)
        mean = weights = None
        if r is not None:
            weights = background_weights(cls_labels, student.num_classes, r, self.cls_formula)
            background = cls_labels == student.num_classes
            mean = (r * background).sum() / background.sum().clamp(min=1)
        losses = [
            self._classification(student, found, cls_labels, weights),
            *self.box_losses(student, found, *_labels(student, found, labels.regression)),
        ]
        named = self._normalized(UNLABELED, student, losses, cls_labels, labels.classification)
        return PseudoLosses(named, mean)

    def box_losses(
        self,
        network: DenseDetector,
        found: Predictions,
        labels: torch.Tensor,
        boxes: list[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Sums over the positives, in the order of :meth:`loss_names` after that of the classes.

        Args:
            labels: (N, R).
            boxes: per image, the (R, 4) boxes that places are matched to, absolute XYXY.
        """
        raise NotImplementedError

    def teach(self, teacher, views, *, as_evaluated=False) -> DenseTeacherPass:
        encoded = self.encode(teacher, [{"image": view} for view in views])
        return DenseTeacherPass(teacher, encoded, by_centerness=self.stability == "centerness")

    def _classification(self, network, found: Predictions, labels, weights) -> torch.Tensor:
        return classification_loss(
            torch.cat(found.logits, dim=1),
            labels,
            weights,
            alpha=network.focal_loss_alpha,
            gamma=network.focal_loss_gamma,
        )

    def _normalized(
        self, stream: int, network, losses, labels, targets: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Names the sums, divided by the positives; counts those of this step for the next."""
        normalizer = self.normalizers.of(stream, len(labels))
        positive = is_positive(labels, network.num_classes)
        self.normalizers.count(stream, positive, sum(map(len, targets)))
        return {name: x / normalizer for name, x in zip(self.loss_names(network), losses)}

    @torch.no_grad()
    def _reliability(
        self, student, found: Predictions, labels: PseudoLabels, teacher_pass, transport
    ) -> torch.Tensor | None:
        """(N, R) r of every place, None without weights."""
        asked = {}
        if self.indicator == "none":
            return None
        if self.indicator in NEEDS_TEACHER:
            asked["teacher_bg"] = teacher_pass.background_scores(
                *_in_weak_views(student, found, transport)
            )
        if self.indicator in ("bg_student", "pred_diff"):
            asked["student_bg"] = _per_anchor(background_maps(found), found.anchors)
        if self.indicator in ("iou", "reverse_iou"):
            anchors = Boxes.cat(found.anchors)
            overlaps = [overlap(anchors, g.gt_boxes) for g in labels.classification]
            asked["iou"] = torch.stack(overlaps)
        return reliability(self.indicator, **asked)


@FAMILY_REGISTRY.register()
class RetinaNetFamily(DenseFamily):
    """Detectron2's RetinaNet."""

    detectors = ("RetinaNet",)
    detector_class = RetinaNet
    num_classes_parameter = "RetinaNet.num_classes"
    score_floor_parameter = "RetinaNet.test_score_thresh"
    anchor_levels_parameter = "RetinaNet.head_in_features"
    positives = 100.0

    def loss_names(self, network: nn.Module) -> tuple[str, ...]:
        return ("loss_cls", "loss_box_reg")

    def box_losses(self, network, found, labels, boxes):
        form = {"smooth_l1_beta": network.smooth_l1_beta}
        return [_regression(network, found, labels, boxes, network.box_reg_loss_type, **form)]


class FCOSFamily(DenseFamily):
    """Detectron2's FCOS, which a LazyConfig alone describes."""

    detectors = ("FCOS",)
    detector_class = FCOS
    num_classes_parameter = "FCOS.num_classes"
    score_floor_parameter = "FCOS.test_score_thresh"
    # Scores are geometric means of two sigmoids, and NMS suppresses what overlaps more.
    thresholds = Thresholds(score=0.6, candidate=0.4, variance=0.07)
    # A point has no extent.
    indicators = tuple(name for name in INDICATORS if name not in ("iou", "reverse_iou"))
    positives = 300.0

    @configurable
    def __init__(self, *, stability: str = "spread", **settings):
        """
        Args:
            stability: what measures a box: "spread", the variance of the boxes that NMS suppressed
                onto it, or "centerness", 1 - what the head predicts of it.
            settings: of :class:`DenseFamily`.
        """
        super().__init__(**settings)
        check_choice("FCOSFamily.stability", stability, STABILITIES)
        self.stability = stability

    def loss_names(self, network: nn.Module) -> tuple[str, ...]:
        return ("loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr")

    def box_losses(self, network, found, labels, boxes):
        rows = torch.nonzero(is_positive(labels, network.num_classes).flatten()).squeeze(1)
        targets = network.compute_ctrness_targets(found.anchors, boxes).flatten()
        centerness = F.binary_cross_entropy_with_logits(
            torch.cat(found.centerness, dim=1).flatten()[rows], targets[rows], reduction="sum"
        )
        return [_regression(network, found, labels, boxes, "giou"), centerness]


def _labels(network: DenseDetector, found: Predictions, targets: list[Instances]):
    """(N, R) labels and, per image, the (R, 4) boxes that places are matched to."""
    labels, boxes = network.label_anchors(found.anchors, targets)
    return torch.stack(labels), boxes


def _regression(network, found: Predictions, labels, boxes, kind: str, **form) -> torch.Tensor:
    try:
        return _dense_box_regression_loss(
            found.anchors,
            network.box2box_transform,
            found.deltas,
            boxes,
            is_positive(labels, network.num_classes),
            box_reg_loss_type=kind,
            **form,
        )
    except AssertionError as error:  # losses of overlaps assert that boxes are boxes
        raise FloatingPointError("predicted boxes are NaN") from error


def _in_weak_views(network: DenseDetector, found: Predictions, transport: ViewTransport):
    """Where the places of the strong views lie in the weak views.

    Returns:
        (N, R, 2) their centers and (N, R) the strides of their levels, in weak-view pixels: an
        object that is smaller there belongs to a finer level.
    """
    centers = Boxes.cat(found.anchors).get_centers().repeat(1, 2)  # a point is a box of no extent
    warped = transport.to_weak([Boxes(centers)] * len(transport.scales))
    levels = zip(found.anchors, network.anchor_generator.strides)
    strides = torch.cat([centers.new_full((len(a),), stride) for a, stride in levels])
    return torch.stack([b.tensor[:, :2] for b in warped]), strides / transport.scales[:, None]


def _per_anchor(maps: list[torch.Tensor], anchors: list[Boxes]) -> torch.Tensor:
    """(N, R): each anchor has what the (N, H, W) map of its level has in its cell."""
    flat = [m.flatten(1) for m in maps]
    return torch.cat(
        [f.repeat_interleave(len(a) // f.shape[1], dim=1) for f, a in zip(flat, anchors)], dim=1
    )
