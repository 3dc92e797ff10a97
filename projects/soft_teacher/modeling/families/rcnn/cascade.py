"""Cascaded ROI heads that learn from pseudo boxes, every stage with teacher-scored backgrounds."""

from collections.abc import Callable
from functools import partial

import torch
from detectron2.config import configurable
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage

from ....utils.errors import ConfigError
from ...background_weights import is_background
from ...pseudo_labels import rows_where
from ...step_record import PseudoLabels
from .fast_rcnn import SoftFastRCNNOutputLayers
from .samples import StageSamples, stacked
from .soft_heads import REG_SCOPE, SoftHeads
from .stages import Stages

__all__ = ["SoftTeacherCascadeROIHeads"]


@ROI_HEADS_REGISTRY.register()
class SoftTeacherCascadeROIHeads(Stages, SoftHeads, CascadeROIHeads):
    """CascadeROIHeads, with a mask head or without, and :meth:`pseudo_losses` of unlabeled images.

    Labeled images go through the stock forward; the state dict is the stock one.
    """

    @configurable
    def __init__(self, **kwargs):
        """
        Args:
            kwargs: of :class:`.Stages`, :class:`.SoftHeads` and CascadeROIHeads.

        Raises:
            ConfigError: for a regression of classes.
        """
        super().__init__(**kwargs)
        _check_agnostic(all(p.bbox_pred.out_features == 4 for p in self.box_predictor))

    @property
    def box_loss_names(self) -> tuple[str, ...]:
        return self.stage_names("loss_cls", "loss_box_reg")

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        _check_agnostic(cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG)
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictors"] = [
            SoftFastRCNNOutputLayers(
                cfg, head.output_shape, box2box_transform=stock.box2box_transform
            )
            for head, stock in zip(ret["box_heads"], ret["box_predictors"])
        ]
        return ret

    def _forward_box(self, features, proposals, targets=None):
        """See CascadeROIHeads; in eval mode the last predictor suppresses as it is set to."""
        if self.training:
            return super()._forward_box(features, proposals, targets)
        boxes, scores = self.candidates(features, proposals)
        sizes = [p.image_size for p in proposals]
        return self.box_predictor[-1].suppress(boxes, scores, sizes)[0]

    def joint_scores(self, predictions, proposals) -> list[torch.Tensor]:
        """See :class:`.Stages`: the mean of the stages' softmax, to Detectron2's last bit."""
        per_stage = [self.box_predictor[0].predict_probs(p, proposals) for p in predictions]
        return [sum(image) * (1 / len(per_stage)) for image in zip(*per_stage)]

    def pseudo_losses(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        pseudo: PseudoLabels,
        score_with_teacher: Callable[..., list[torch.Tensor]],
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Losses of unlabeled images (Eq. 4, 5 and 10 at every stage), one pass of each stage.

        S_reg has backgrounds, too, as a stage may make foregrounds of them for the next: those of
        G_reg among S_cls, so that no proposal passes for its background twice.

        Args:
            features: the student's feature maps of the strong views.
            proposals: per image, RPN proposals (strong view).
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: maps boxes of the strong view and ``stage=`` to the teacher's
                background probabilities; called only if the indicator needs it.

        Returns:
            dict with "loss_cls_stage0", "loss_box_reg_stage0" and so on, as the stock heads name
            them, and "loss_mask" where masks are learned, for the first stage's samples as in a
            stock forward; and the mean r of the background samples of all stages, a scalar on the
            device, None for the indicator "none".
        """
        sampled = self.sample(proposals, pseudo)[:2]
        mask_losses = self.pseudo_mask_losses(features, *sampled)
        samples = self._first_samples(*sampled, pseudo)
        features = [features[f] for f in self.box_in_features]
        losses, seen, reliabilities = {}, [], []
        for stage, predictor in enumerate(self.box_predictor):
            predictions = self._run_stage(features, samples.passing, stage)
            stage_losses, r = self.weighted_losses(
                predictor,
                self.proposal_matchers[stage],
                samples.of_rows(predictions),
                samples,
                pseudo,
                partial(score_with_teacher, stage=stage),
            )
            losses.update({f"{name}_stage{stage}": loss for name, loss in stage_losses.items()})
            seen += samples.classification
            reliabilities += r
            if stage + 1 < self.num_cascade_stages:
                boxes = predictor.predict_boxes(predictions, samples.passing)
                samples = self._next_samples(samples, boxes, pseudo, stage + 1)
        return {**losses, **mask_losses}, self.mean_reliability(seen, reliabilities)

    def _create_proposals_from_boxes(self, boxes, image_sizes):
        """See the base class.

        Raises:
            FloatingPointError: for a box that is not finite, as Detectron2's RPN does in training.
        """
        try:
            return super()._create_proposals_from_boxes(boxes, image_sizes)
        except AssertionError as error:
            raise FloatingPointError(str(error)) from error

    def _first_samples(self, s_cls, foregrounds, pseudo) -> StageSamples:
        """S_cls, and S_reg of some foregrounds and the backgrounds of G_reg among S_cls."""
        background = [
            is_background(s.proposal_boxes, g.gt_boxes, self.proposal_matcher)
            for s, g in zip(s_cls, pseudo.regression)
        ]
        rows = rows_where([~mask for mask in background] + background)
        alone, shared = rows[: len(s_cls)], rows[len(s_cls) :]
        backgrounds = [self._as_backgrounds(s[r]) for s, r in zip(s_cls, shared)]
        return StageSamples(
            [s[torch.cat(both)] for s, *both in zip(s_cls, alone, shared)],
            [stacked(*both) for both in zip(backgrounds, foregrounds)],
            [len(r) for r in shared],
        )

    def _as_backgrounds(self, samples: Instances) -> Instances:
        classes = torch.full_like(samples.gt_classes, self.num_classes)
        boxes = samples.proposal_boxes
        return Instances(samples.image_size, proposal_boxes=boxes, gt_classes=classes)

    def _next_samples(self, samples, boxes, pseudo, stage: int) -> StageSamples:
        """The rows at the boxes that a stage predicts, matched for the stage after it."""
        sizes = [p.image_size for p in samples.passing]
        alone, shared, others = (
            self._create_proposals_from_boxes(part, sizes) for part in samples.parts(boxes)
        )
        s_cls = [Instances.cat(two) for two in zip(alone, shared)]
        s_reg = [Instances.cat(two) for two in zip(shared, others)]
        s_cls = self._match_and_label_boxes(s_cls, stage, pseudo.classification)
        with get_event_storage().name_scope(REG_SCOPE):
            s_reg = self._match_and_label_boxes(s_reg, stage, pseudo.regression)
        return StageSamples(s_cls, s_reg, [len(rows) for rows in shared])


def _check_agnostic(agnostic: bool) -> None:
    """Raises ConfigError for box predictors that regress a box for every class."""
    if not agnostic:
        raise ConfigError(
            "FastRCNNOutputLayers.cls_agnostic_bbox_reg must be True in a cascade, whose stages "
            "pass on one box"
        )
