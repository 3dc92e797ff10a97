from .cascade import SoftTeacherCascadeROIHeads
from .family import FasterRCNNFamily
from .fast_rcnn import SoftFastRCNNOutputLayers
from .roi_heads import SoftTeacherROIHeads
from .rpn import SoftTeacherRPN

__all__ = [
    "FasterRCNNFamily",
    "SoftFastRCNNOutputLayers",
    "SoftTeacherCascadeROIHeads",
    "SoftTeacherROIHeads",
    "SoftTeacherRPN",
]
