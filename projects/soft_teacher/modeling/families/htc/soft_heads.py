"""HTC's ROI heads that learn from pseudo boxes and masks, stage by stage."""

from functools import partial

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ...background_weights import is_background
from ...pseudo_labels import log_mean_count, rows_where
from ...step_record import PseudoLabels
from ..rcnn.foregrounds import ForegroundSampler
from ..rcnn.samples import PseudoSamples
from ..rcnn.soft_heads import REG_SCOPE, ScoreWithTeacher, SoftHeads
from ..rcnn.stages import Stages
from .mask_head import HTCMaskHead
from .roi_heads import HTCROIHeads

__all__ = ["SoftTeacherHTCROIHeads"]


class SoftTeacherHTCROIHeads(Stages, SoftHeads, HTCROIHeads):
    """HTCROIHeads with :meth:`pseudo_losses` of unlabeled images.

    Labeled images go through the forward of HTCROIHeads; the state dict is the same. Semantic maps
    are learned from labeled images alone.
    """

    def __init__(self, **kwargs):
        """
        Args:
            kwargs: of :class:`.Stages`, :class:`.SoftHeads` and :class:`.HTCROIHeads`.
        """
        super().__init__(**kwargs)
        # Without parameters.
        self.foreground_samplers = nn.ModuleList(map(ForegroundSampler.like, self.samplers))

    @property
    def mask_heads(self) -> list[HTCMaskHead]:
        return list(self.mask_head)

    @property
    def loss_names(self) -> tuple[str, ...]:
        semantic = () if self.semantic_head is None else ("loss_sem_seg",)
        return semantic + self.stage_names("loss_cls", "loss_box_reg", "loss_mask")

    @property
    def pseudo_loss_names(self) -> tuple[str, ...]:
        masks = ("loss_mask",) if self.learns_masks else ()
        return self.stage_names("loss_cls", "loss_box_reg", *masks)

    def joint_scores(self, predictions, proposals) -> list[torch.Tensor]:
        """See :class:`.Stages`: the softmax of the stages' mean logits."""
        mean = torch.stack([scores for scores, _ in predictions]).mean(dim=0)
        return self.box_predictor[0].predict_probs((mean, None), proposals)

    def pseudo_losses(
        self,
        features: dict[str, torch.Tensor],
        proposals: list[Instances],
        pseudo: PseudoLabels,
        score_with_teacher: ScoreWithTeacher,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Losses of unlabeled images (Eq. 4, 5 and 10 at every stage), times the stage's weight.

        As for labeled images a stage samples among the boxes of the stage before and its goals,
        here twice: S_cls for G_cls, and foregrounds, S_reg, for G_reg. S_cls hands its boxes on to
        S_cls; to S_reg go those that it made of S_reg and of the backgrounds of G_reg in S_cls, so
        that no box passes for a background of both. Masks are learned on the boxes that the stage
        has just refined.

        Args:
            features: the student's feature maps of the strong views.
            proposals: per image, RPN proposals (strong view).
            pseudo: G_cls and G_reg in the strong view.
            score_with_teacher: maps boxes of the strong view and ``stage=`` to the teacher's
                background probabilities; called only if the indicator needs it.

        Returns:
            dict with ``pseudo_loss_names``; and the mean r of the background samples of all stages,
            a scalar on the device, None for the indicator "none".
        """
        features, _ = self.with_embedding(features)
        levels = [features[name] for name in self.box_in_features]
        candidates = [[p.proposal_boxes for p in proposals]] * 2
        losses, seen, reliabilities = {}, [], []
        for stage, predictor in enumerate(self.box_predictor):
            samples = self._sample_twice(*candidates, pseudo, stage)
            predictions = self._run_stage(levels, samples.rows, stage)
            stage_losses, r = self.weighted_losses(
                predictor,
                self.proposal_matchers[stage],
                predictions,
                samples,
                pseudo,
                partial(score_with_teacher, stage=stage),
            )
            candidates = self._passed_on(predictions, samples, pseudo, stage)
            if self.learns_masks:
                stage_losses["loss_mask"] = self._mask_loss(features, *candidates, pseudo, stage)
            for name, loss in stage_losses.items():
                losses[f"{name}_stage{stage}"] = self.stage_weights[stage] * loss
            seen += samples.classification
            reliabilities += r
        return losses, self.mean_reliability(seen, reliabilities)

    def _sample_twice(
        self, for_cls: list[Boxes], for_reg: list[Boxes], pseudo: PseudoLabels, stage: int
    ) -> PseudoSamples:
        """S_cls and S_reg of a stage, with the fields of :meth:`HTCROIHeads._sample`."""
        storage = get_event_storage()
        with storage.name_scope(f"unsup/stage{stage}"):
            s_cls = self._sample(for_cls, pseudo.classification, stage)
        with storage.name_scope(f"{REG_SCOPE}/stage{stage}"):
            s_reg, sizes = self._foregrounds(for_reg, pseudo.regression, stage)
        if stage == 0:
            log_mean_count("num_reg_samples", s_reg)
        return PseudoSamples(s_cls, s_reg, sizes)

    def _foregrounds(self, candidates: list[Boxes], goals: list[Instances], stage: int):
        """See :meth:`.ForegroundSampler.sample`."""
        found = self._to_sample_from(candidates, goals)
        return self.foreground_samplers[stage].sample(*found)

    def _passed_on(
        self, predictions, samples: PseudoSamples, pseudo: PseudoLabels, stage: int
    ) -> tuple[list[Boxes], list[Boxes]]:
        """The refined boxes that S_cls and S_reg of the next stage are sampled from."""
        s_cls, s_reg = samples.classification, samples.regression
        refined = [r.proposal_boxes for r in self._refine(predictions, samples.rows, stage)]
        matcher = self.proposal_matchers[stage]
        alike = [
            ~s.is_gt & is_background(s.proposal_boxes, g.gt_boxes, matcher)
            for s, g in zip(s_cls, pseudo.regression)
        ]
        rows = rows_where([~s.is_gt for s in s_cls] + alike + [~s.is_gt for s in s_reg])
        n = len(refined)
        for_cls = [boxes[r] for boxes, r in zip(refined, rows[:n])]
        for_reg = [
            boxes[torch.cat([shared, own + len(s)])]
            for boxes, shared, own, s in zip(refined, rows[n : 2 * n], rows[2 * n :], s_cls)
        ]
        return for_cls, for_reg

    def _mask_loss(self, features, for_cls, for_reg, pseudo, stage: int) -> torch.Tensor:
        """Mask loss of a stage, on foregrounds among the boxes that it has refined."""
        candidates, goals = for_reg, pseudo.regression
        if self.pseudo_masks.targets == "classification":
            candidates, goals = for_cls, pseudo.classification
        with get_event_storage().name_scope(f"unsup/stage{stage}/mask"):
            positives, _ = self._foregrounds(candidates, goals, stage)
        self._add_masks(positives, goals)
        logits = self._mask_logits(features, positives, stage)
        return self.pseudo_masks.loss(logits, positives, self.average)
