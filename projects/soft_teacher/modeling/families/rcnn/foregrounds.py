"""S_reg: samples foreground proposals only."""

import torch
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.structures import Instances

__all__ = ["ForegroundSampler"]


class ForegroundSampler(ROIHeads):
    """Detectron2's sampling of proposals, of which it keeps the foregrounds.

    Picking them out of Detectron2's samples would be a host-device sync. Has no parameters.
    """

    @classmethod
    def like(cls, heads: ROIHeads) -> "ForegroundSampler":
        """With the matching and the numbers of samples of ``heads``."""
        return cls(
            num_classes=heads.num_classes,
            batch_size_per_image=heads.batch_size_per_image,
            positive_fraction=heads.positive_fraction,
            proposal_matcher=heads.proposal_matcher,
            proposal_append_gt=heads.proposal_append_gt,
        )

    def sample(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """
        Args:
            proposals, targets: see ``ROIHeads.label_and_sample_proposals``.

        Returns:
            per image, the sampled foregrounds in the form that it returns, and how many samples
            there would be with backgrounds, a scalar on the device.
        """
        self._sizes: list[torch.Tensor] = []
        return self.label_and_sample_proposals(proposals, targets), self._sizes

    def _sample_proposals(self, matched_idxs, matched_labels, gt_classes):
        background = matched_labels == 0
        if len(gt_classes):
            ignored = matched_labels.masked_fill(background, -1)
            rows, classes = super()._sample_proposals(matched_idxs, ignored, gt_classes)
        else:
            rows, classes = matched_idxs[:0], gt_classes
        room = self.batch_size_per_image - len(rows)
        self._sizes.append(len(rows) + background.sum().clamp(max=room))
        return rows, classes
