"""ROI heads of Hybrid Task Cascade: boxes and masks stage by stage, with semantic features."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import CascadeROIHeads, ROIHeads
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.modeling.roi_heads.roi_heads import select_foreground_proposals
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from ....utils.checks import check_choice
from ....utils.errors import ConfigError
from .mask_head import HTCMaskHead, refined_features
from .pooler import SemanticPooler
from .semantic_head import FusedSemanticHead

__all__ = ["HTCROIHeads"]

MASK_MERGES = ("last", "mean")
EMBEDDING = "semantic"


class HTCROIHeads(CascadeROIHeads):
    """CascadeROIHeads with a mask head at every stage, and a semantic branch.

    In training a stage samples among the boxes of the stage before and the ground truth, and its
    masks are trained on the boxes that it has just refined. Losses are named ``loss_cls_stage0``,
    ``loss_box_reg_stage0``, ``loss_mask_stage0`` and so on, and ``loss_sem_seg``.
    """

    def __init__(
        self,
        *,
        mask_heads: Sequence[HTCMaskHead],
        mask_pooler: ROIPooler,
        mask_in_features: Sequence[str],
        stage_weights: Sequence[float] = (1.0, 0.5, 0.25),
        mask_merge: str = "last",
        semantic_head: FusedSemanticHead | None = None,
        semantic_pooler: ROIPooler | None = None,
        **kwargs,
    ):
        """
        Args:
            mask_heads, mask_pooler, mask_in_features: one head a stage, all on the same features.
            stage_weights: multiply the losses of boxes and masks of each stage.
            mask_merge: predicted masks are those of the "last" stage, or the "mean" over stages.
            semantic_head: None leaves the semantic branch out.
            semantic_pooler: pools its embedding, for boxes and for masks.
            kwargs: of CascadeROIHeads; ``batch_size_per_image``, ``positive_fraction`` and
                ``proposal_append_gt`` apply to each stage. Box regression is class-agnostic.

        Raises:
            ConfigError: for settings that contradict each other, naming the parameter.
        """
        super().__init__(
            mask_head=nn.ModuleList(mask_heads),
            mask_pooler=mask_pooler,
            mask_in_features=list(mask_in_features),
            **kwargs,
        )
        check_choice("HTCROIHeads.mask_merge", mask_merge, MASK_MERGES)
        self.stage_weights = tuple(stage_weights)
        self.mask_merge = mask_merge
        self.semantic_head = semantic_head
        self._check_stages()
        if semantic_head is not None:
            self._add_semantic_features(semantic_pooler)
        # Without parameters.
        self.samplers = nn.ModuleList(self._sampler(m) for m in self.proposal_matchers)
        self._maps: list[torch.Tensor | None] | None = None

    def _check_stages(self) -> None:
        stages = self.num_cascade_stages
        for name, items in (("mask_heads", self.mask_head), ("stage_weights", self.stage_weights)):
            if len(items) != stages:
                raise ConfigError(f"HTCROIHeads.{name} must have {stages} items, one a stage")
        if any(predictor.bbox_pred.out_features != 4 for predictor in self.box_predictor):
            raise ConfigError("HTCROIHeads needs class-agnostic boxes: cls_agnostic_bbox_reg=True")

    def _add_semantic_features(self, pooler: ROIPooler | None) -> None:
        if pooler is None:
            raise ConfigError("HTCROIHeads.semantic_head needs semantic_pooler")
        self.box_pooler = SemanticPooler(self.box_pooler, pooler)
        self.mask_pooler = SemanticPooler(self.mask_pooler, pooler)
        self.box_in_features = [*self.box_in_features, EMBEDDING]
        self.mask_in_features = [*self.mask_in_features, EMBEDDING]

    def _sampler(self, matcher) -> ROIHeads:
        return ROIHeads(
            num_classes=self.num_classes,
            batch_size_per_image=self.batch_size_per_image,
            positive_fraction=self.positive_fraction,
            proposal_matcher=matcher,
            proposal_append_gt=False,
        )

    @contextmanager
    def semantic_maps(self, maps: Iterable[torch.Tensor | None]) -> Iterator[None]:
        """Inside, a training step learns these semantic maps.

        Args:
            maps: per image, see :meth:`.FusedSemanticHead.loss`.
        """
        self._maps = list(maps)
        try:
            yield
        finally:
            self._maps = None

    def forward(self, images, features, proposals, targets=None):
        """See ROIHeads.

        Args:
            targets: in training, with ``gt_boxes``, ``gt_classes`` and ``gt_masks``.
        """
        if not self.training:
            return super().forward(images, self.with_embedding(features)[0], proposals)
        features, logits = self.with_embedding(features)
        losses = {} if logits is None else {"loss_sem_seg": self._semantic_loss(logits)}
        candidates = [p.proposal_boxes for p in proposals]
        for stage in range(self.num_cascade_stages):
            with get_event_storage().name_scope(f"stage{stage}"):
                box_losses, candidates = self._train_boxes(features, candidates, targets, stage)
                mask_loss = self._train_masks(features, candidates, targets, stage)
            for name, loss in {**box_losses, "loss_mask": mask_loss}.items():
                losses[f"{name}_stage{stage}"] = self.stage_weights[stage] * loss
        return proposals, losses

    def with_embedding(
        self, features: dict[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Features that include the semantic embedding, and its logits unless they had it before.

        Without a semantic head they stay as they are.
        """
        if self.semantic_head is None or EMBEDDING in features:
            return features, None
        embedding, logits = self.semantic_head(features)
        return {**features, EMBEDDING: embedding}, logits

    def forward_with_given_boxes(self, features, instances):
        return super().forward_with_given_boxes(self.with_embedding(features)[0], instances)

    def _semantic_loss(self, logits):
        if self._maps is None:
            raise ConfigError(
                "HTCROIHeads.semantic_head learns from semantic maps: put the heads into a "
                "HybridTaskCascade, or set semantic_head to None"
            )
        return self.semantic_head.loss(logits, self._maps)

    def _train_boxes(self, features, candidates, targets, stage: int):
        """Box losses of a stage, and the boxes that it makes of its samples."""
        samples = self._sample(candidates, targets, stage)
        levels = [features[name] for name in self.box_in_features]
        predictions = self._run_stage(levels, samples, stage)
        losses = self.box_predictor[stage].losses(predictions, samples)
        refined = self._refine(predictions, samples, stage)
        return losses, [r.proposal_boxes[~s.is_gt] for r, s in zip(refined, samples)]

    def _train_masks(self, features, candidates, targets, stage: int) -> torch.Tensor:
        """Mask loss of a stage, on foregrounds among the boxes that it has refined."""
        with get_event_storage().name_scope(f"stage{stage}/mask"):
            samples = self._sample(candidates, targets, stage)
        samples, _ = select_foreground_proposals(samples, self.num_classes)
        self._add_masks(samples, targets)
        return mask_rcnn_loss(self._mask_logits(features, samples, stage), samples)

    def _add_masks(self, samples: list[Instances], targets: list[Instances]) -> None:
        """Gives foregrounds the masks of their ground truth, where it has some."""
        for rows, target in zip(samples, targets):
            if len(rows) and target.has("gt_masks"):
                rows.gt_masks = target.gt_masks[rows.gt_row]

    def _mask_logits(self, features, samples: list[Instances], stage: int) -> torch.Tensor:
        """(n, K, M, M) mask logits of a stage for all samples."""
        x = self._mask_features(features, [s.proposal_boxes for s in samples])
        *_, refined = refined_features(self.mask_head[: stage + 1], x)
        return self.mask_head[stage].predict(refined)

    def _sample(self, candidates: list[Boxes], targets, stage: int) -> list[Instances]:
        """Candidates and ground truth, matched and sampled for a stage.

        Returns:
            per image, Instances with the fields that ``label_and_sample_proposals`` sets, ``is_gt``
            and, where there is ground truth, ``gt_row``.
        """
        return self.samplers[stage].label_and_sample_proposals(
            *self._to_sample_from(candidates, targets)
        )

    def _to_sample_from(self, candidates: list[Boxes], targets) -> tuple[list, list]:
        """Proposals and targets of ``label_and_sample_proposals``.

        Proposals say whether they are ground truth (``is_gt``); targets have the number of their
        row (``gt_row``) in place of a mask: to index masks for all samples would take the memory of
        as many images.
        """
        proposals, goals = [], []
        for boxes, target in zip(candidates, targets):
            added = target.gt_boxes if self.proposal_append_gt else target.gt_boxes[:0]
            boxes = Boxes.cat([boxes, added])
            number = torch.arange(len(boxes), device=boxes.device)
            is_gt = number >= len(boxes) - len(added)
            proposals.append(Instances(target.image_size, proposal_boxes=boxes, is_gt=is_gt))
            goal = Instances(target.image_size)
            goal.gt_boxes, goal.gt_classes = target.gt_boxes, target.gt_classes
            goal.gt_row = torch.arange(len(target), device=boxes.device)
            goals.append(goal)
        return proposals, goals

    def _run_stage(self, features, proposals, stage: int):
        # Detectron2's scales the gradient of the features by 1 / stages.
        x = self.box_pooler(features, [p.proposal_boxes for p in proposals])
        return self.box_predictor[stage](self.box_head[stage](x))

    def _create_proposals_from_boxes(self, boxes, image_sizes) -> list[Instances]:
        # Detectron2's drops empty boxes in training, and their rows with them.
        proposals = [
            Instances(s, proposal_boxes=Boxes(b.detach())) for b, s in zip(boxes, image_sizes)
        ]
        for p in proposals:
            _clip(p.proposal_boxes, p.image_size)
        return proposals

    def _refine(self, predictions, proposals, stage: int) -> list[Instances]:
        boxes = self.box_predictor[stage].predict_boxes(predictions, proposals)
        return self._create_proposals_from_boxes(boxes, [p.image_size for p in proposals])

    def _forward_box(self, features, proposals, targets=None) -> list[Instances]:
        """Detections, scored by the softmax of the stages' mean logits; in eval mode."""
        levels = [features[name] for name in self.box_in_features]
        logits, refined = [], proposals
        for stage in range(self.num_cascade_stages):
            proposals = refined
            scores, deltas = self._run_stage(levels, proposals, stage)
            logits.append(scores)
            refined = self._refine((scores, deltas), proposals, stage)
        mean = torch.stack(logits).mean(dim=0)
        return self.box_predictor[-1].inference((mean, deltas), proposals)[0]

    def _forward_mask(self, features, instances) -> list[Instances]:
        """Adds ``pred_masks``, (n, 1, M, M) probabilities on ``pred_boxes``; in eval mode."""
        if not self.mask_on:
            return instances
        x = self._mask_features(features, [i.pred_boxes for i in instances])
        stages = list(zip(self.mask_head, refined_features(self.mask_head, x)))
        probs = []
        for head, refined in stages if self.mask_merge == "mean" else stages[-1:]:
            mask_rcnn_inference(head.predict(refined), instances)
            probs.append([i.pred_masks for i in instances])
        for image, masks in zip(instances, zip(*probs)):
            image.pred_masks = sum(masks) / len(masks)
        return instances

    def _mask_features(self, features, boxes: list[Boxes]) -> torch.Tensor:
        return self.mask_pooler([features[name] for name in self.mask_in_features], boxes)


def _clip(boxes: Boxes, size: tuple[int, int]) -> None:
    """Clips boxes in place; raises FloatingPointError, as Detectron2's RPN, for NaN or inf."""
    try:
        boxes.clip(size)
    except AssertionError as error:
        raise FloatingPointError(str(error)) from error
