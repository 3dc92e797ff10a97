"""R-CNNs as a family: an RPN, and box heads that score the background."""

from contextlib import nullcontext

import torch
from detectron2.config import configurable
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.roi_heads import BaseMaskRCNNHead
from detectron2.structures import Boxes, Instances
from torch import nn

from ....utils.checks import check_choice
from ....utils.errors import ConfigError
from ...background_weights import NEEDS_TEACHER
from ...box_jitter import BoxJitter
from ..base import (
    FAMILY_REGISTRY,
    Candidates,
    DetectorFamily,
    Encoded,
    MergesViews,
    PseudoLosses,
)
from .cascade import SoftTeacherCascadeROIHeads
from .fast_rcnn import SoftFastRCNNOutputLayers
from .roi_heads import SoftTeacherROIHeads
from .rpn import SoftTeacherRPN
from .soft_heads import SoftHeads
from .teacher_pass import PROPOSAL_SETTINGS, RCNNTeacherPass

__all__ = ["FasterRCNNFamily"]

RPN_LOSSES = ("loss_rpn_cls", "loss_rpn_loc")
# Detectron2's ROI heads, and what takes their place.
HEADS = {"StandardROIHeads": SoftTeacherROIHeads, "CascadeROIHeads": SoftTeacherCascadeROIHeads}


@FAMILY_REGISTRY.register()
class FasterRCNNFamily(MergesViews, DetectorFamily):
    """GeneralizedRCNN with SoftTeacherROIHeads or SoftTeacherCascadeROIHeads, also with masks.

    Losses of a box head are divided by samples (labeled), or by Eq. 4, 5 and 10 (unlabeled);
    those of the RPN by samples; those of the mask head by the pixels of the positives, of a rank's
    images (labeled), or of each image (unlabeled).
    """

    detectors = ("GeneralizedRCNN",)
    detector_class: type[GeneralizedRCNN] = GeneralizedRCNN
    heads: tuple[type[SoftHeads], ...] = tuple(HEADS.values())
    num_classes_parameter = "StandardROIHeads.num_classes"
    score_floor_parameter = "FastRCNNOutputLayers.test_score_thresh"
    anchor_levels_parameter = "RPN.in_features"
    class_layers = "roi_heads.box_predictor."
    ignore = 1.3

    @configurable
    def __init__(
        self,
        *,
        jitter: BoxJitter,
        rpn_on_unlabeled: bool = True,
        teacher_proposals: str = "test",
    ):
        """
        Args:
            jitter: measures the stability of the teacher's boxes.
            rpn_on_unlabeled: train the RPN on G_cls of unlabeled images, too.
            teacher_proposals: number of RPN proposals of the teacher while it labels, that of
                "test" or of "train" (released code).

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        check_choice("FasterRCNNFamily.teacher_proposals", teacher_proposals, PROPOSAL_SETTINGS)
        self.jitter = jitter
        self.rpn_on_unlabeled = rpn_on_unlabeled
        self.teacher_proposals = teacher_proposals

    @classmethod
    def from_config(cls, cfg):
        return {
            "jitter": BoxJitter(cfg),
            "rpn_on_unlabeled": cfg.SOFT_TEACHER.RPN_ON_UNLABELED,
            "teacher_proposals": cfg.SOFT_TEACHER.TEACHER_PROPOSALS,
        }

    @classmethod
    def detector_config(cls, cfg):
        name = cfg.MODEL.ROI_HEADS.NAME
        ours = {heads.__name__ for heads in HEADS.values()}
        if name not in {*HEADS, *ours}:
            raise ConfigError(
                f"MODEL.ROI_HEADS.NAME '{name}' cannot be wrapped by SoftTeacher: use "
                f"{' or '.join(HEADS)}"
            )
        if cfg.MODEL.RESNETS.RES5_DILATION > 1:
            raise ConfigError(
                "MODEL.RESNETS.RES5_DILATION (DC5) is not supported by SoftTeacher: set it to 1, "
                "with an FPN"
            )
        detector = cfg.clone()
        detector.defrost()
        detector.MODEL.ROI_HEADS.NAME = name if name in ours else HEADS[name].__name__
        if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
            detector.MODEL.PROPOSAL_GENERATOR.NAME = "SoftTeacherRPN"
        detector.VIS_PERIOD = 0  # pictures are the run's, not the mask head's
        return detector

    def check(self, student: nn.Module) -> None:
        heads = getattr(student, "roi_heads", None)
        if not isinstance(student, self.detector_class) or not isinstance(heads, self.heads):
            names = " or ".join(ours.__name__ for ours in self.heads)
            raise ConfigError(
                f"SoftTeacher wraps a {self.detector_class.__name__} with {names}, got "
                f"{type(student).__name__} with {type(heads).__name__}"
            )
        if student.proposal_generator is None:
            raise ConfigError(
                "SoftTeacher needs an RPN: set GeneralizedRCNN.proposal_generator to 'RPN'"
            )
        if heads.keypoint_on:
            raise ConfigError(
                "StandardROIHeads.keypoint_head is not supported by SoftTeacher: switch it off"
            )
        if heads.train_on_pred_boxes:
            raise ConfigError(
                "StandardROIHeads.train_on_pred_boxes is not supported by SoftTeacher: set it to "
                "False"
            )
        for head in heads.mask_heads:
            _check_mask_head(head, heads.mask_pooler)
        for predictor in heads.predictors:
            _check_predictor(predictor)

    def loss_names(self, network: nn.Module) -> tuple[str, ...]:
        return RPN_LOSSES + network.roi_heads.loss_names

    def pseudo_loss_names(self, network: nn.Module) -> tuple[str, ...]:
        names = network.roi_heads.pseudo_loss_names
        return RPN_LOSSES + names if self.rpn_on_unlabeled else names

    def num_classes(self, network: nn.Module) -> int:
        return network.roi_heads.num_classes

    def score_floor(self, network: nn.Module) -> float:
        return network.roi_heads.predictors[-1].test_score_thresh

    def has_masks(self, network: nn.Module) -> bool:
        return network.roi_heads.mask_on

    def averages_images(self, student: nn.Module) -> bool:
        return student.roi_heads.average == "image"

    def ignores_boxes(self, student: nn.Module) -> bool:
        return isinstance(student.proposal_generator, SoftTeacherRPN)

    def questions_to_teacher(self, student: nn.Module) -> list[str]:
        indicator = student.roi_heads.indicator
        asks = indicator in NEEDS_TEACHER
        return [f"SoftHeads.indicator, now '{indicator}', to 'none'"] if asks else []

    def losses(self, student, encoded, inputs) -> dict[str, torch.Tensor]:
        targets = [x["instances"].to(student.device) for x in inputs]
        proposals, rpn_losses = student.proposal_generator(
            encoded.images, encoded.features, targets
        )
        _, box_losses = student.roi_heads(encoded.images, encoded.features, proposals, targets)
        return {**rpn_losses, **box_losses}

    def pseudo_losses(
        self, student, encoded, inputs, labels, teacher_pass, transport
    ) -> PseudoLosses:
        rpn = student.proposal_generator
        with rpn.ignoring(labels.ignored) if labels.ignored else nullcontext():
            proposals, rpn_losses = rpn(encoded.images, encoded.features, labels.classification)

        def score_with_teacher(boxes: list[Boxes], **stage) -> list[torch.Tensor]:
            return teacher_pass.background_scores(transport.to_weak(boxes), **stage)

        box_losses, reliability = student.roi_heads.pseudo_losses(
            encoded.features, proposals, labels, score_with_teacher
        )
        losses = {**rpn_losses, **box_losses} if self.rpn_on_unlabeled else box_losses
        return PseudoLosses(losses, reliability)

    def encode_views(self, network: nn.Module, views: list[torch.Tensor]) -> Encoded:
        return self.encode(network, [{"image": view} for view in views])

    def candidates(self, network, encoded) -> list[Candidates]:
        proposals, _ = network.proposal_generator(encoded.images, encoded.features, None)
        return list(map(Candidates, *network.roi_heads.candidates(encoded.features, proposals)))

    def select(self, network, candidates, size) -> Instances:
        predictor = network.roi_heads.predictors[-1]
        return predictor.suppress([candidates.boxes], [candidates.scores], [size])[0][0]

    def add_masks(self, network, encoded, found) -> list[Instances]:
        return network.roi_heads.forward_with_given_boxes(encoded.features, found)

    def teach(self, teacher, views, *, as_evaluated=False) -> RCNNTeacherPass:
        return RCNNTeacherPass(
            teacher,
            self.encode_views(teacher, views),
            jitter=self.jitter,
            proposals=self.teacher_proposals,
            masks=as_evaluated or teacher.roi_heads.learns_masks,
        )


def _check_mask_head(head: nn.Module, pooler: nn.Module | None) -> None:
    """Raises ConfigError unless a mask head has Detectron2's loss, on features of boxes."""
    kind = type(head)
    if getattr(kind, "forward", None) is not BaseMaskRCNNHead.forward or pooler is None:
        raise ConfigError(
            f"StandardROIHeads.mask_head {kind.__name__} is not supported by SoftTeacher, which "
            "needs pooled features and Mask R-CNN's loss: use MaskRCNNConvUpsampleHead"
        )


def _check_predictor(predictor: nn.Module) -> None:
    """Raises ConfigError unless a box predictor has weighted losses and a background score."""
    if not isinstance(predictor, SoftFastRCNNOutputLayers):
        raise ConfigError(
            f"SoftTeacher needs SoftFastRCNNOutputLayers, got {type(predictor).__name__}"
        )
    if getattr(predictor, "use_sigmoid_ce", False):
        raise ConfigError(
            "FastRCNNOutputLayers.use_sigmoid_ce leaves no background score: set it to False"
        )
