from .backbone import build_small_resnet_fpn_backbone, small_resnet_fpn
from .box_jitter import BoxJitter
from .fast_rcnn import SoftFastRCNNOutputLayers
from .pseudo_labels import PseudoLabeler, PseudoLabels
from .roi_heads import SoftTeacherROIHeads
from .soft_teacher import SoftTeacher

__all__ = [
    "BoxJitter",
    "PseudoLabeler",
    "PseudoLabels",
    "SoftFastRCNNOutputLayers",
    "SoftTeacher",
    "SoftTeacherROIHeads",
    "build_small_resnet_fpn_backbone",
    "small_resnet_fpn",
]
