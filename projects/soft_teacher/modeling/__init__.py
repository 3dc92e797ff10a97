from .box_jitter import BoxJitter
from .families.dense import FCOSFamily, RetinaNetFamily
from .families.htc import (
    BestAnchorMatcher,
    FusedSemanticHead,
    HTCFamily,
    HTCMaskHead,
    HTCROIHeads,
    HybridTaskCascade,
    InsideAnchorRPN,
    SoftTeacherHTCROIHeads,
)
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
    "BestAnchorMatcher",
    "BoxJitter",
    "DensityThresholds",
    "FCOSFamily",
    "FasterRCNNFamily",
    "FusedSemanticHead",
    "HTCFamily",
    "HTCMaskHead",
    "HTCROIHeads",
    "HybridTaskCascade",
    "InsideAnchorRPN",
    "PseudoLabeler",
    "PseudoLabels",
    "PseudoMasks",
    "RetinaNetFamily",
    "SoftFastRCNNOutputLayers",
    "SoftTeacher",
    "SoftTeacherCascadeROIHeads",
    "SoftTeacherHTCROIHeads",
    "SoftTeacherROIHeads",
    "SoftTeacherRPN",
]
