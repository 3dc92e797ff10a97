"""Soft Teacher on Detectron2's Faster R-CNN R-50-FPN, with the values of the paper."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L

from soft_teacher.modeling import (
    BoxJitter,
    DensityThresholds,
    FasterRCNNFamily,
    PseudoLabeler,
    SoftFastRCNNOutputLayers,
    SoftTeacher,
    SoftTeacherROIHeads,
    SoftTeacherRPN,
)

detector = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
detector.backbone.bottom_up.freeze_at = 2
detector.proposal_generator._target_ = SoftTeacherRPN
# (training, test), per image.
detector.proposal_generator.post_nms_topk = (2000, 1000)
heads = detector.roi_heads
heads._target_ = SoftTeacherROIHeads
heads.update(indicator="bg_teacher", cls_formula="paper")
heads.update(reg_normalizer="foreground", average="image")
heads.box_predictor._target_ = SoftFastRCNNOutputLayers
heads.box_predictor.update(soft_nms="none", soft_nms_sigma=0.5)
for key in ("mask_in_features", "mask_pooler", "mask_head"):
    del heads[key]

model = L(SoftTeacher)(
    student=detector,
    family=L(FasterRCNNFamily)(
        jitter=L(BoxJitter)(
            num=10, scale=0.06, distribution="uniform", normalizer="candidate", clip=False
        ),
        rpn_on_unlabeled=True,
        teacher_proposals="test",
    ),
    pseudo_labeler=L(PseudoLabeler)(
        score_thresh=0.9,
        candidate_thresh=0.5,
        variance_thresh=0.02,
        measure_stability=True,
        stable_share=0.0,
        by_density=False,
        density=L(DensityThresholds)(
            foreground=0.8, ignore=0.0, regression=0.0, window=200, floor=0.05
        ),
    ),
    alpha=4.0,
    label_source="${train.label_source}",
    statistics="all",
)
