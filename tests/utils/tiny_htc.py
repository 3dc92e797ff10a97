"""An HTC that is built from the tiny YAML config, for tests that build every kind of detector."""

from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from htc import htc_heads

from soft_teacher.modeling import (
    HTCFamily,
    HybridTaskCascade,
    InsideAnchorRPN,
    PseudoMasks,
    SoftTeacherHTCROIHeads,
)
from soft_teacher.modeling.families.base import FAMILY_REGISTRY

STUFF = 5
# So that untrained stages move boxes little.
STDS = ((0.005, 0.005, 0.01, 0.01),) * 3


@META_ARCH_REGISTRY.register()
class TinyHTC(HybridTaskCascade):
    """Every stage has a box head of one layer; semantic maps have 5 classes."""

    def __init__(self, cfg):
        backbone = build_backbone(cfg)
        super().__init__(
            backbone=backbone,
            proposal_generator=InsideAnchorRPN(cfg, backbone.output_shape()),
            roi_heads=tiny_heads(cfg),
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
        )


@FAMILY_REGISTRY.register()
class TinyHTCFamily(HTCFamily):
    detectors = ("TinyHTC",)


def tiny_heads(cfg) -> SoftTeacherHTCROIHeads:
    heads, ours = cfg.MODEL.ROI_HEADS, cfg.SOFT_TEACHER
    return htc_heads(
        cls=SoftTeacherHTCROIHeads,
        channels=cfg.MODEL.FPN.OUT_CHANNELS,
        num_classes=heads.NUM_CLASSES,
        fc_dim=cfg.MODEL.ROI_BOX_HEAD.FC_DIM,
        semantic_classes=STUFF,
        samples=heads.BATCH_SIZE_PER_IMAGE,
        positives=heads.POSITIVE_FRACTION,
        predictor={"test_score_thresh": heads.SCORE_THRESH_TEST},
        levels=heads.IN_FEATURES,
        semantic_levels=cfg.MODEL.RPN.IN_FEATURES,
        stds=STDS,
        mask_size=7,
        mask_convs=1,
        pseudo_masks=PseudoMasks(cfg),
        indicator=ours.INDICATOR,
        cls_formula=ours.CLS_FORMULA,
        reg_normalizer=ours.REG_NORMALIZER,
        average=ours.AVERAGE,
        scores=ours.CASCADE.SCORES,
        jitter=ours.CASCADE.JITTER,
    )
