from .family import HTCFamily
from .mask_head import HTCMaskHead
from .meta_arch import HybridTaskCascade
from .pooler import SemanticPooler
from .roi_heads import HTCROIHeads
from .rpn import BestAnchorMatcher, InsideAnchorRPN
from .semantic_head import FusedSemanticHead
from .soft_heads import SoftTeacherHTCROIHeads

__all__ = [
    "BestAnchorMatcher",
    "FusedSemanticHead",
    "HTCFamily",
    "HTCMaskHead",
    "HTCROIHeads",
    "HybridTaskCascade",
    "InsideAnchorRPN",
    "SemanticPooler",
    "SoftTeacherHTCROIHeads",
]
