from .backbone import build_small_resnet_fpn_backbone, small_resnet_fpn
from .box_jitter import BoxJitter
from .families.dense import RetinaNetFamily
from .families.rcnn import FasterRCNNFamily, SoftFastRCNNOutputLayers, SoftTeacherROIHeads
from .pseudo_labels import PseudoLabeler, PseudoLabels
from .soft_teacher import SoftTeacher

__all__ = [
    "BoxJitter",
    "FasterRCNNFamily",
    "PseudoLabeler",
    "PseudoLabels",
    "RetinaNetFamily",
    "SoftFastRCNNOutputLayers",
    "SoftTeacher",
    "SoftTeacherROIHeads",
    "build_small_resnet_fpn_backbone",
    "small_resnet_fpn",
]
