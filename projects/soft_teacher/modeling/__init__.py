from .box_jitter import BoxJitter
from .families.dense import RetinaNetFamily
from .families.rcnn import FasterRCNNFamily, SoftFastRCNNOutputLayers, SoftTeacherROIHeads
from .pseudo_labels import PseudoLabeler
from .soft_teacher import SoftTeacher
from .step_record import PseudoLabels

__all__ = [
    "BoxJitter",
    "FasterRCNNFamily",
    "PseudoLabeler",
    "PseudoLabels",
    "RetinaNetFamily",
    "SoftFastRCNNOutputLayers",
    "SoftTeacher",
    "SoftTeacherROIHeads",
]
