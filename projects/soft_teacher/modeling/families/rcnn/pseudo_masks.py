"""ROI heads that learn masks from the teacher's."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.modeling.roi_heads import ROIHeads, select_foreground_proposals
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import Instances
from torch import nn

from ....utils.checks import check_choice, shown
from ....utils.errors import ConfigError
from ...mask_weights import is_certain, mask_weights, predicted_quality, weighted_mask_loss

__all__ = ["LearnsMasks", "PseudoMasks"]

TARGETS = ("regression", "classification")
MASK_LOSSES = ("loss_mask",)


class PseudoMasks:
    """How masks are learned from unlabeled images, by heads that have a mask head."""

    @configurable
    def __init__(
        self,
        *,
        enabled: bool = False,
        targets: str = "regression",
        soft: bool = False,
        ignore: float = 0.0,
        quality: bool = False,
    ):
        """
        Args:
            enabled: without it only boxes are learned from unlabeled images.
            targets: whose foregrounds learn masks, those of S_reg, matched to G_reg
                ("regression"), or of S_cls, matched to G_cls ("classification").
            soft: learn the teacher's probabilities, not whether they are at least 0.5.
            ignore: pixels whose probability is within this of 0.5 have no loss.
            quality: weight a mask's loss by :func:`~.mask_weights.predicted_quality`.

        Raises:
            ConfigError: for a value outside its range, naming the parameter.
        """
        check_choice("PseudoMasks.targets", targets, TARGETS)
        if not 0 <= ignore < 0.5:
            raise ConfigError(
                f"PseudoMasks.ignore must be at least 0 and below 0.5, got {shown(ignore)}"
            )
        self.enabled = enabled
        self.targets = targets
        self.soft = soft
        self.ignore = ignore
        self.quality = quality

    @classmethod
    def from_config(cls, cfg):
        masks = cfg.SOFT_TEACHER.MASK
        return {
            "enabled": masks.ENABLED,
            "targets": masks.TARGETS,
            "soft": masks.SOFT,
            "ignore": masks.IGNORE,
            "quality": masks.QUALITY,
        }

    def losses(
        self, heads: ROIHeads, features: dict[str, torch.Tensor], positives: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """:meth:`loss` of the mask head of ``heads``, times the weight that it gives its own.

        Args:
            heads: with ``mask_pooler`` and ``mask_head``, and ``average``, "image" or "gpu".
            features: the student's feature maps of the strong views.
            positives: see :meth:`loss`.

        Returns:
            dict with "loss_mask".
        """
        maps = [features[f] for f in heads.mask_in_features]
        logits = heads.mask_head.layers(
            heads.mask_pooler(maps, [p.proposal_boxes for p in positives])
        )
        loss = self.loss(logits, positives, heads.average)
        return {"loss_mask": loss * heads.mask_head.loss_weight}

    def loss(self, logits: torch.Tensor, positives: list[Instances], average: str) -> torch.Tensor:
        """The mask loss of unlabeled images.

        Detectron2's own where all pixels count alike and heads average over the GPU; its value
        with other weights otherwise, see :func:`~.mask_weights.mask_weights`.

        Args:
            logits: (n, C, M, M) of all positives, C being 1 or the number of classes.
            positives: per image, with ``proposal_boxes`` (strong view), ``gt_classes`` and, unless
                it is empty, ``gt_masks``, a :class:`~.mask_transport.TransportedMasks`.
            average: "image" or "gpu".

        Returns:
            a scalar; 0 and connected to the logits where there is no positive.

        Raises:
            ConfigError: precomputed pseudo labels have no masks.
        """
        for p in filter(len, positives):
            if not p.has("gt_masks"):
                raise ConfigError(
                    "pseudo labels have no masks: set PseudoMasks.enabled to False, or give every "
                    "annotation a segmentation"
                )
            p.gt_masks = p.gt_masks.softened() if self.soft else p.gt_masks
        if average == "gpu" and not (self.ignore or self.quality):
            return mask_rcnn_loss(logits, positives)
        return self._weighted(_of_classes(logits, positives), positives, average)

    def _weighted(self, logits, positives, average) -> torch.Tensor:
        """The loss of (n, M, M) logits."""
        pixels = [self._pixels(p, logits.shape[-1]) for p in positives]
        targets, certain, quality = zip(*pixels)
        weights = mask_weights(certain, quality, average)
        return weighted_mask_loss(logits, torch.cat(targets), torch.cat(weights))

    def _pixels(self, positives: Instances, size: int):
        """(n, size, size) targets and whether they are certain; (n,) qualities of the masks."""
        boxes = positives.proposal_boxes.tensor
        if not len(positives):  # which then have no gt_masks
            none = boxes.new_zeros(0, size, size)
            return none, none.bool(), none[:, 0, 0]
        masks = positives.gt_masks
        found = masks.sample(boxes, size)
        quality = boxes.new_ones(len(masks))
        if self.quality:
            quality = predicted_quality(masks.probabilities)
        return masks.targets(found).float(), is_certain(found, self.ignore), quality


class LearnsMasks:
    """Mixin of Detectron2's ROI heads: mask losses of unlabeled images.

    Attributes:
        box_loss_names: of a stock forward in training, without masks.
        average: see :meth:`PseudoMasks.loss`.
    """

    box_loss_names: tuple[str, ...]
    average: str

    @configurable
    def __init__(self, *, pseudo_masks: PseudoMasks | None = None, **kwargs):
        """
        Args:
            pseudo_masks: how masks are learned, read by heads with a mask head alone; the defaults
                of the class if None.
            kwargs: of the stock heads.
        """
        super().__init__(**kwargs)
        self.pseudo_masks = pseudo_masks or PseudoMasks()

    @classmethod
    def from_config(cls, cfg, input_shape):
        return {**super().from_config(cfg, input_shape), "pseudo_masks": PseudoMasks(cfg)}

    @property
    def mask_heads(self) -> list[nn.Module]:
        """All mask heads; none of a detector without masks."""
        return [self.mask_head] if self.mask_on else []

    @property
    def learns_masks(self) -> bool:
        """Whether masks are learned from unlabeled images."""
        return self.mask_on and self.pseudo_masks.enabled

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Of labeled images."""
        return self.box_loss_names + (MASK_LOSSES if self.mask_on else ())

    @property
    def pseudo_loss_names(self) -> tuple[str, ...]:
        """Of unlabeled images."""
        return self.box_loss_names + (MASK_LOSSES if self.learns_masks else ())

    def pseudo_mask_losses(
        self,
        features: dict[str, torch.Tensor],
        classification: list[Instances],
        regression: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """The losses of :meth:`PseudoMasks.losses`; none where no masks are learned.

        Args:
            features: the student's feature maps of the strong views.
            classification: per image, S_cls.
            regression: per image, the foregrounds of S_reg.
        """
        if not self.learns_masks:
            return {}
        positives = regression
        if self.pseudo_masks.targets == "classification":
            positives, _ = select_foreground_proposals(classification, self.num_classes)
        return self.pseudo_masks.losses(self, features, positives)


def _of_classes(logits: torch.Tensor, positives: list[Instances]) -> torch.Tensor:
    """(n, M, M) logits of the own classes, of (n, C, M, M), or of (n, 1, M, M) for all classes."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    classes = torch.cat([p.gt_classes for p in positives])
    return logits[torch.arange(len(classes), device=classes.device), classes]
