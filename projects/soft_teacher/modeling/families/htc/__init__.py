from .mask_head import HTCMaskHead
from .meta_arch import HybridTaskCascade
from .pooler import SemanticPooler
from .roi_heads import HTCROIHeads
from .rpn import BestAnchorMatcher, InsideAnchorRPN
from .semantic_head import FusedSemanticHead

__all__ = [
    "BestAnchorMatcher",
    "FusedSemanticHead",
    "HTCMaskHead",
    "HTCROIHeads",
    "HybridTaskCascade",
    "InsideAnchorRPN",
    "SemanticPooler",
]
