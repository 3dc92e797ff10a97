from .cascade import SoftTeacherCascadeROIHeads
from .family import FasterRCNNFamily
from .fast_rcnn import SoftFastRCNNOutputLayers
from .pseudo_masks import PseudoMasks
from .roi_heads import SoftTeacherROIHeads
from .rpn import SoftTeacherRPN

__all__ = [
    "FasterRCNNFamily",
    "PseudoMasks",
    "SoftFastRCNNOutputLayers",
    "SoftTeacherCascadeROIHeads",
    "SoftTeacherROIHeads",
    "SoftTeacherRPN",
]
