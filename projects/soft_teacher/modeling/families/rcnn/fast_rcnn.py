"""Box predictor whose losses accept a coefficient for every proposal, and with soft-NMS."""

import torch
from detectron2.config import configurable
from detectron2.layers import cat
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from torch.nn import functional as F

from ....utils.checks import check_choice
from .soft_nms import SOFT_NMS, soft_nms_inference

__all__ = ["SoftFastRCNNOutputLayers"]


class SoftFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Stock output layers, with the same state dict, plus losses with per-proposal weights."""

    @configurable
    def __init__(self, *args, soft_nms: str = "none", soft_nms_sigma: float = 0.5, **kwargs):
        """
        Args:
            args, kwargs: of FastRCNNOutputLayers.
            soft_nms: "none" for NMS; "linear" lowers scores from an IoU of ``test_nms_thresh`` on,
                "gaussian" everywhere. Detections that fall below ``test_score_thresh`` are dropped.
            soft_nms_sigma: of "gaussian".

        Raises:
            ConfigError: for an unknown choice, naming the parameter.
        """
        super().__init__(*args, **kwargs)
        check_choice("SoftFastRCNNOutputLayers.soft_nms", soft_nms, SOFT_NMS)
        self.soft_nms = soft_nms
        self.soft_nms_sigma = soft_nms_sigma

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {
            **super().from_config(cfg, input_shape),
            "soft_nms": cfg.SOFT_TEACHER.SOFT_NMS,
            "soft_nms_sigma": cfg.SOFT_TEACHER.SOFT_NMS_SIGMA,
        }

    def inference(self, predictions, proposals):
        """See FastRCNNOutputLayers."""
        boxes = self.predict_boxes(predictions, proposals)
        scores = self.predict_probs(predictions, proposals)
        return self.suppress(boxes, scores, [p.image_size for p in proposals])

    def suppress(self, boxes, scores, image_shapes):
        """Detections among boxes, which a cascade may have scored otherwise, or several views.

        Args:
            boxes, scores, image_shapes: see Detectron2's ``fast_rcnn_inference``.

        Returns:
            list[Instances] and, per image, the rows of ``boxes`` that they are.
        """
        settings = self.test_score_thresh, self.test_nms_thresh, self.test_topk_per_image
        if self.soft_nms == "none":
            return fast_rcnn_inference(boxes, scores, image_shapes, *settings)
        form = {"method": self.soft_nms, "sigma": self.soft_nms_sigma}
        return soft_nms_inference(boxes, scores, image_shapes, *settings, **form)

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
