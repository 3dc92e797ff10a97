"""Box predictor whose losses accept a coefficient for every proposal."""

import torch
from detectron2.layers import cat
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch.nn import functional as F

__all__ = ["SoftFastRCNNOutputLayers"]


class SoftFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Stock output layers, with the same state dict, plus losses with per-proposal weights."""

    def losses(self, predictions, proposals):
        """Detectron2's losses, or the weighted ones where the proposals carry weights.

        Args:
            predictions: (scores, deltas) of :meth:`forward`.
            proposals: list[Instances] with ``proposal_boxes``, ``gt_boxes``, ``gt_classes``. With
                the fields ``cls_weight`` and ``reg_weight`` these are final coefficients:
                loss_cls = sum(cls_weight * cross-entropy) and loss_box_reg = sum(reg_weight *
                box loss); reg_weight is the same for all regression rows of one image and 0 on
                the others. 1 / n everywhere gives Detectron2's own numbers.

        Returns:
            dict with "loss_cls" and "loss_box_reg", each multiplied by the configured weight.
        """
        if not (len(proposals) and proposals[0].has("cls_weight")):
            return super().losses(predictions, proposals)
        scores, deltas = predictions
        losses = {
            "loss_cls": self._weighted_classification(scores, proposals),
            "loss_box_reg": self._weighted_regression(deltas, proposals),
        }
        return {k: v * self.loss_weight.get(k, 1.0) for k, v in losses.items()}

    def _weighted_classification(self, scores, proposals):
        gt_classes = cat([p.gt_classes for p in proposals])
        weights = cat([p.cls_weight for p in proposals])
        return (weights * F.cross_entropy(scores.float(), gt_classes, reduction="none")).sum()

    def _weighted_regression(self, deltas, proposals):
        # box_reg_loss divides by the rows it is given, which is undone here. Rows without a weight
        # are background to it: to take them out would be a host-device sync.
        losses = []
        for p, d in zip(proposals, deltas.float().split([len(p) for p in proposals])):
            classes = p.gt_classes.where(p.reg_weight > 0, self.num_classes)
            boxes, targets = p.proposal_boxes.tensor, p.gt_boxes.tensor
            loss = self.box_reg_loss(boxes, targets, d, classes) * len(p)
            losses.append(loss * p.reg_weight.max() if len(p) else loss)
        return torch.stack(losses).sum()
