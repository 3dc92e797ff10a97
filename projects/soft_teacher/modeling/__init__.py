from .box_jitter import BoxJitter
from .families.dense import RetinaNetFamily
from .families.rcnn import (
    FasterRCNNFamily,
    PseudoMasks,
    SoftFastRCNNOutputLayers,
    SoftTeacherCascadeROIHeads,
    SoftTeacherROIHeads,
    SoftTeacherRPN,
)
from .pseudo_labels import PseudoLabeler
from .soft_teacher import SoftTeacher
from .step_record import PseudoLabels
from .thresholds import DensityThresholds

__all__ = [
    "BoxJitter",
    "DensityThresholds",
    "FasterRCNNFamily",
    "PseudoLabeler",
    "PseudoLabels",
    "PseudoMasks",
    "RetinaNetFamily",
    "SoftFastRCNNOutputLayers",
    "SoftTeacher",
    "SoftTeacherCascadeROIHeads",
    "SoftTeacherROIHeads",
    "SoftTeacherRPN",
]
