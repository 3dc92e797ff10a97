from .family import FasterRCNNFamily
from .fast_rcnn import SoftFastRCNNOutputLayers
from .roi_heads import SoftTeacherROIHeads

__all__ = ["FasterRCNNFamily", "SoftFastRCNNOutputLayers", "SoftTeacherROIHeads"]
