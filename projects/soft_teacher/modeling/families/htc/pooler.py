"""RoI features of boxes, to which those of the semantic embedding are added."""

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn
from torch.nn import functional as F

__all__ = ["SemanticPooler"]


class SemanticPooler(nn.Module):
    """A pooler of feature levels and one of the semantic embedding, which may be finer."""

    def __init__(self, levels: ROIPooler, semantic: ROIPooler):
        super().__init__()
        self.levels = levels
        self.semantic = semantic

    def forward(self, features: list[torch.Tensor], boxes: list[Boxes]) -> torch.Tensor:
        """(n, C, h, w) features of all boxes, in the size that ``levels`` pools to.

        Args:
            features: the levels, and last the embedding, of a batch of images.
            boxes: per image, absolute XYXY.
        """
        *levels, embedding = features
        pooled = self.levels(levels, boxes)
        semantic = self.semantic([embedding], boxes)
        return pooled + F.adaptive_avg_pool2d(semantic, pooled.shape[-2:])
