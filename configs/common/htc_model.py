"""Hybrid Task Cascade R-50-FPN with the released values for COCO."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.poolers import ROIPooler

from soft_teacher.modeling import (
    BestAnchorMatcher,
    FusedSemanticHead,
    HTCMaskHead,
    HybridTaskCascade,
    InsideAnchorRPN,
    PseudoMasks,
    SoftFastRCNNOutputLayers,
    SoftTeacherHTCROIHeads,
)

# Of the deltas of boxes, stage by stage.
STDS = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]

detector = model_zoo.get_config("common/models/cascade_rcnn.py").model
detector._target_ = HybridTaskCascade
detector.backbone.bottom_up.freeze_at = 2

rpn = detector.proposal_generator
rpn._target_ = InsideAnchorRPN
rpn.update(anchor_boundary_thresh=0, smooth_l1_beta=1 / 9)
# (training, test), per image.
rpn.post_nms_topk = (2000, 1000)
rpn.anchor_matcher = L(BestAnchorMatcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1], min_quality=0.3)

heads = detector.roi_heads
heads._target_ = SoftTeacherHTCROIHeads
heads.update(indicator="bg_teacher", cls_formula="paper")
heads.update(reg_normalizer="foreground", average="image", scores="stage", jitter="all")
heads.pseudo_masks = L(PseudoMasks)(
    enabled=True, targets="regression", soft=False, ignore=0.0, quality=False
)
for predictor, stds in zip(heads.box_predictors, STDS):
    predictor._target_ = SoftFastRCNNOutputLayers
    predictor.box2box_transform.weights = tuple(1 / std for std in stds)
    predictor.update(smooth_l1_beta=1.0, loss_weight=1.0)
    predictor.update(test_score_thresh=0.001, soft_nms="none", soft_nms_sigma=0.5)
del heads["mask_head"]
heads.mask_heads = [
    L(HTCMaskHead)(
        input_shape=ShapeSpec(channels=256, width=14, height=14),
        num_classes="${...num_classes}",
        conv_dims=[256, 256, 256, 256, 256],
        receives=stage > 0,
    )
    for stage in range(3)
]
heads.update(stage_weights=(1.0, 0.5, 0.25), mask_merge="last")
# None leaves the semantic branch out.
heads.semantic_head = L(FusedSemanticHead)(
    in_features=["p2", "p3", "p4", "p5", "p6"],
    fused_at="p3",
    stride=8,
    channels=256,
    num_classes=183,
    num_convs=4,
    loss_weight=0.2,
)
heads.semantic_pooler = L(ROIPooler)(
    output_size=14, scales=(1 / 8,), sampling_ratio=0, pooler_type="ROIAlignV2"
)
