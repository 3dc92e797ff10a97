"""RetinaNet as a family: every anchor is a sample, and scores are sigmoids."""

import torch
from detectron2.config import configurable
from detectron2.modeling import RetinaNet
from detectron2.structures import Boxes
from torch import nn

from ....utils.checks import check_choice
from ....utils.errors import ConfigError
from ...views import ViewTransport
from ..base import FAMILY_REGISTRY, DetectorFamily, PseudoLosses
from .losses import classification_loss, is_positive, regression_loss
from .predictions import Predictions, predict
from .teacher_pass import RetinaNetTeacherPass

__all__ = ["RetinaNetFamily"]

INDICATORS = ("bg_teacher", "none")
# There is one form of these losses, see losses.py, and one NMS.
ONLY = {
    "CLS_FORMULA": "paper",
    "REG_NORMALIZER": "foreground",
    "AVERAGE": "image",
    "SOFT_NMS": "none",
}


@FAMILY_REGISTRY.register()
class RetinaNetFamily(DetectorFamily):
    """Detectron2's RetinaNet.

    An image's losses are divided by its positive anchors, at least 1: those of the labels; for
    unlabeled images those of G_reg in the regression loss, in the classification loss those of
    G_cls and as many as the teacher suspects elsewhere (:func:`.losses.anchor_weights`).
    """

    detectors = ("RetinaNet",)
    num_classes_parameter = "RetinaNet.num_classes"
    score_floor_parameter = "RetinaNet.test_score_thresh"
    anchor_levels_parameter = "RetinaNet.head_in_features"
    class_layers = "head.cls_score."

    @configurable
    def __init__(self, *, indicator: str = "bg_teacher"):
        """
        Args:
            indicator: reliability of a background anchor (Eq. 5): "bg_teacher" is the teacher's
                background score where the anchor lies in the weak view, "none" weights all alike.

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        check_choice("RetinaNetFamily.indicator", indicator, INDICATORS)
        self.indicator = indicator

    @classmethod
    def from_config(cls, cfg):
        for key, value in ONLY.items():
            check_choice(f"SOFT_TEACHER.{key}", cfg.SOFT_TEACHER[key], [value])
        return {"indicator": cfg.SOFT_TEACHER.INDICATOR}

    def check(self, student: nn.Module) -> None:
        if not isinstance(student, RetinaNet):
            raise ConfigError(f"RetinaNetFamily wraps a RetinaNet, got {type(student).__name__}")

    def loss_names(self, network: nn.Module) -> tuple[str, ...]:
        return ("loss_cls", "loss_box_reg")

    def num_classes(self, network: nn.Module) -> int:
        return network.num_classes

    def score_floor(self, network: nn.Module) -> float:
        return network.test_score_thresh

    def questions_to_teacher(self, student: nn.Module) -> list[str]:
        asks = self.indicator == "bg_teacher"
        return ["RetinaNetFamily.indicator, now 'bg_teacher', to 'none'"] if asks else []

    def losses(self, student, encoded, inputs) -> dict[str, torch.Tensor]:
        found = predict(student, encoded)
        labels, boxes = student.label_anchors(
            found.anchors, [x["instances"].to(student.device) for x in inputs]
        )
        return _losses(student, found, labels, None, labels, boxes)

    def pseudo_losses(
        self, student, encoded, inputs, labels, teacher_pass, transport
    ) -> PseudoLosses:
        found = predict(student, encoded)
        cls_labels, _ = student.label_anchors(found.anchors, labels.classification)
        reg_labels, boxes = student.label_anchors(found.anchors, labels.regression)
        r = mean = None
        if self.indicator != "none":
            r = teacher_pass.background_scores(*_in_weak_views(student, found, transport))
            background = torch.stack(cls_labels) == student.num_classes
            mean = (r * background).sum() / background.sum().clamp(min=1)
        return PseudoLosses(_losses(student, found, cls_labels, r, reg_labels, boxes), mean)

    def teach(self, teacher, views, *, as_evaluated=False) -> RetinaNetTeacherPass:
        return RetinaNetTeacherPass(
            teacher, self.encode(teacher, [{"image": view} for view in views])
        )


def _losses(network: RetinaNet, found: Predictions, cls_labels, r, reg_labels, boxes) -> dict:
    """Labels and boxes are per image, as ``RetinaNet.label_anchors`` returns them."""
    return {
        "loss_cls": classification_loss(
            torch.cat(found.logits, dim=1),
            torch.stack(cls_labels),
            r,
            alpha=network.focal_loss_alpha,
            gamma=network.focal_loss_gamma,
        ),
        "loss_box_reg": regression_loss(
            found.anchors,
            torch.cat(found.deltas, dim=1),
            is_positive(torch.stack(reg_labels), network.num_classes),
            boxes,
            network.box2box_transform,
            box_reg_loss_type=network.box_reg_loss_type,
            smooth_l1_beta=network.smooth_l1_beta,
        ),
    }


def _in_weak_views(network: RetinaNet, found: Predictions, transport: ViewTransport):
    """Where the anchors of the strong views lie in the weak views.

    Returns:
        (N, R, 2) their centers and (N, R) the strides of their levels, in weak-view pixels: an
        object that is smaller there belongs to a finer level.
    """
    centers = Boxes.cat(found.anchors).get_centers().repeat(1, 2)  # a point is a box of no extent
    warped = transport.to_weak([Boxes(centers)] * len(transport.scales))
    levels = zip(found.anchors, network.anchor_generator.strides)
    strides = torch.cat([centers.new_full((len(a),), stride) for a, stride in levels])
    return torch.stack([b.tensor[:, :2] for b in warped]), strides / transport.scales[:, None]
