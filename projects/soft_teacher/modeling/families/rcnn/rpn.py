"""An RPN that can leave anchors out of its loss."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY, RPN
from detectron2.structures import Boxes, Instances

from ...background_weights import is_background

__all__ = ["SoftTeacherRPN"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class SoftTeacherRPN(RPN):
    """Detectron2's RPN, with the same state dict, plus boxes that are no background."""

    _ignored: Sequence[Boxes] = ()

    @contextmanager
    def ignoring(self, boxes: Sequence[Boxes]) -> Iterator[None]:
        """Inside, background anchors on these boxes have no loss.

        Args:
            boxes: per image, in the frame of the features; empty if nothing is ignored.
        """
        self._ignored = boxes
        try:
            yield
        finally:
            self._ignored = ()

    @torch.no_grad()
    def label_and_sample_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]):
        """See the base class.

        Of the sampled backgrounds, those whose IoU with an ignored box is too large for a
        background of it are labeled -1.
        """
        labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)
        if self._ignored:
            places = Boxes.cat(anchors)
            labels = [
                label.where((label != 0) | is_background(places, ignored, self.anchor_matcher), -1)
                for label, ignored in zip(labels, self._ignored)
            ]
        return labels, boxes
