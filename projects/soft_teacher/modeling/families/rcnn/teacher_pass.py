"""The teacher's pass of an R-CNN: detections, and features for further passes of its box head."""

from contextlib import contextmanager, nullcontext

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Boxes, Instances
from torch import nn

from ...box_jitter import BoxJitter
from ..base import Encoded, MeasuresStability, TeacherPass

__all__ = ["PROPOSAL_SETTINGS", "RCNNTeacherPass"]

PROPOSAL_SETTINGS = ("test", "train")


class RCNNTeacherPass(TeacherPass, MeasuresStability):
    """Detects on weak views as in an evaluation, without the last rescaling."""

    @torch.no_grad()
    def __init__(
        self,
        teacher: GeneralizedRCNN,
        encoded: Encoded,
        *,
        jitter: BoxJitter,
        proposals: str = "test",
        masks: bool = True,
    ):
        """
        Args:
            teacher: in eval mode, with SoftTeacherROIHeads.
            encoded: the weak views.
            jitter: measures the stability of detections.
            proposals: number of RPN proposals, that of "test" or of "train".
            masks: predict masks, too, with a mask head.
        """
        with _proposal_setting(teacher.proposal_generator, proposals):
            candidates, _ = teacher.proposal_generator(encoded.images, encoded.features, None)
        with nullcontext() if masks else _without_masks(teacher.roi_heads):
            detections, _ = teacher.roi_heads(encoded.images, encoded.features, candidates, None)
        super().__init__(detections)
        self._heads = teacher.roi_heads
        self._features = encoded.features
        self._jitter = jitter

    def variances(self, rows: list[torch.Tensor], seeds: list[int]) -> list[torch.Tensor]:
        """See :class:`MeasuresStability`; by box jittering (Eq. 7-9)."""
        candidates = [d[r] for d, r in zip(self.detections, rows)]
        return self._jitter.variances(self._refine, candidates, seeds)

    def background_scores(self, boxes: list[Boxes], **stage) -> list[torch.Tensor]:
        """Per image, the (n,) background probability of each box of the weak view.

        Args:
            stage: of the heads that have several.
        """
        return self._heads.background_scores(self._features, self._proposals(boxes), **stage)

    def _refine(self, boxes: list[Boxes], classes: list[torch.Tensor]) -> list[torch.Tensor]:
        proposals = self._proposals(boxes)
        for p, c in zip(proposals, classes):
            p.gt_classes = c
        return self._heads.refine(self._features, proposals)

    def _proposals(self, boxes: list[Boxes]) -> list[Instances]:
        sizes = [d.image_size for d in self.detections]
        return [Instances(size, proposal_boxes=b) for size, b in zip(sizes, boxes)]


@contextmanager
def _proposal_setting(rpn: nn.Module, setting: str):
    """An RPN in eval mode that keeps as many proposals as in training, for "train"."""
    if setting == "test":
        yield
        return
    saved = rpn.pre_nms_topk, rpn.post_nms_topk
    rpn.pre_nms_topk, rpn.post_nms_topk = ({False: n[True], True: n[True]} for n in saved)
    try:
        yield
    finally:
        rpn.pre_nms_topk, rpn.post_nms_topk = saved


@contextmanager
def _without_masks(heads: nn.Module):
    """Inside, ROI heads predict no masks."""
    saved = heads.mask_on
    heads.mask_on = False
    try:
        yield
    finally:
        heads.mask_on = saved
