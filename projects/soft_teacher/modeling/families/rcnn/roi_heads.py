"""ROI heads that learn from pseudo boxes with teacher-scored backgrounds."""

import torch
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.structures import Boxes, Instances

from ...step_record import PseudoLabels
from .fast_rcnn import SoftFastRCNNOutputLayers
from .samples import PseudoSamples
from .soft_heads import ScoreWithTeacher, SoftHeads

__all__ = ["SoftTeacherROIHeads"]


@ROI_HEADS_REGISTRY.register()
class SoftTeacherROIHeads(SoftHeads, StandardROIHeads):
    """StandardROIHeads, with a mask head or without, and :meth:`pseudo_losses` of unlabeled images.

    Labeled images go through the stock forward; the state dict is the stock one.
    """

    box_loss_names = ("loss_cls", "loss_box_reg")

    @property
    def predictors(self) -> list[SoftFastRCNNOutputLayers]:
        return [self.box_predictor]

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = SoftFastRCNNOutputLayers(cfg, ret["box_head"].output_shape)
        return ret

    def predict(self, features: dict[str, torch.Tensor], boxes: list[Boxes]):
        """Raw (scores, deltas) of the box head, in one pass.

        Args:
            features: feature maps of a batch of images.
            boxes: per image, absolute XYXY in the frame of those images.
        """
        features = [features[f] for f in self.box_in_features]
        return self.box_predictor(self.box_head(self.box_pooler(features, boxes)))

    def candidates(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What :meth:`.SoftFastRCNNOutputLayers.suppress` chooses from; in eval mode.

        Args:
            features: feature maps of a batch of images.
            proposals: per image, of the RPN.

        Returns:
            per image, the boxes and their scores.
        """
        predictions = self.predict(features, [p.proposal_boxes for p in proposals])
        boxes = self.box_predictor.predict_boxes(predictions, proposals)
        return boxes, self.box_predictor.predict_probs(predictions, proposals)

    @torch.no_grad()
    def background_scores(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> list[torch.Tensor]:
        """Per image, the (n,) background probability of each box, float32.

        Args:
            features: feature maps of a batch of images.
            proposals: per image, with ``proposal_boxes`` in the frame of those images.
        """
        predictions = self.predict(features, [p.proposal_boxes for p in proposals])
        return self.background_probabilities(self.box_predictor, predictions, proposals)

    @torch.no_grad()
    def refine(
        self, features: dict[str, torch.Tensor], proposals: list[Instances]
    ) -> list[torch.Tensor]:
        """Per image, (n, 4) boxes, refined as their own classes, not clipped.

        Args:
            features: feature maps of a batch of images.
            proposals: per image, with ``proposal_boxes`` in the frame of those images and
                ``gt_classes``.
        """
        scores, deltas = self.predict(features, [p.proposal_boxes for p in proposals])
        predictions = scores.float(), deltas.float()
        return self.box_predictor.predict_boxes_for_gt_classes(predictions, proposals)

    def pseudo_losses(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        pseudo: PseudoLabels,
        score_with_teacher: ScoreWithTeacher,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Losses of unlabeled images (Eq. 4, 5 and 10), with one pass of each head.

        Args:
            features: the student's feature maps of the strong views.
            proposals: per image, RPN proposals (strong view).
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: maps boxes of the strong view to the teacher's background
                probabilities; called only if the indicator needs it.

        Returns:
            dict with ``pseudo_loss_names``, as the stock heads name them; and the mean r of the
            background samples, a scalar on the device, None for the indicator "none".
        """
        samples = PseudoSamples(*self.sample(proposals, pseudo))
        predictions = self.predict(features, [r.proposal_boxes for r in samples.rows])
        losses, r = self.weighted_losses(
            self.box_predictor,
            self.proposal_matcher,
            predictions,
            samples,
            pseudo,
            score_with_teacher,
        )
        losses.update(self.pseudo_mask_losses(features, samples.classification, samples.regression))
        return losses, self.mean_reliability(samples.classification, r)
