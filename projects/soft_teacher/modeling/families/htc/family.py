"""Hybrid Task Cascade as a family: an R-CNN that learns semantic maps of labeled images, too."""

from dataclasses import replace

from torch import nn

from ..base import Encoded
from ..rcnn.family import FasterRCNNFamily
from .meta_arch import HybridTaskCascade
from .soft_heads import SoftTeacherHTCROIHeads

__all__ = ["HTCFamily"]


class HTCFamily(FasterRCNNFamily):
    """HybridTaskCascade with SoftTeacherHTCROIHeads; described by a LazyConfig alone.

    Losses of stages are divided as FasterRCNNFamily's; that of semantic maps by the pixels of all
    labeled images of a rank, so that images weigh the same.
    """

    detectors = ("HybridTaskCascade",)
    # Its RPN leaves nothing out.
    ignore = 0.0
    detector_class = HybridTaskCascade
    heads = (SoftTeacherHTCROIHeads,)

    def semantic_classes(self, network: nn.Module) -> int:
        head = network.roi_heads.semantic_head
        return 0 if head is None else head.predictor.out_channels

    def losses(self, student, encoded, inputs):
        with student.roi_heads.semantic_maps(x.get("sem_seg") for x in inputs):
            return super().losses(student, encoded, inputs)

    def encode_views(self, network, views) -> Encoded:
        encoded = super().encode_views(network, views)
        # Once for detections, masks, jittered boxes and backgrounds.
        features, _ = network.roi_heads.with_embedding(encoded.features)
        return replace(encoded, features=features)
