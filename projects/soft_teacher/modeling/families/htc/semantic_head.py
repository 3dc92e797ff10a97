"""The semantic branch: one map from all feature levels, labeled pixel by pixel."""

from collections.abc import Sequence

import torch
from detectron2.layers import Conv2d
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

from ....data.semantic_maps import IGNORED

__all__ = ["FusedSemanticHead"]


class FusedSemanticHead(nn.Module):
    """Sums all levels at the size of one of them; predicts semantic classes and an embedding."""

    def __init__(
        self,
        *,
        in_features: Sequence[str],
        fused_at: str,
        stride: int,
        channels: int,
        num_classes: int,
        num_convs: int = 4,
        loss_weight: float = 0.2,
    ):
        """
        Args:
            in_features: names of the levels.
            fused_at: that of them to whose size the others are resized.
            stride: its pixels.
            channels: width of the levels and of the embedding.
            num_classes: of semantic maps, 183 for COCO-stuff.
            num_convs: 3x3 convolutions after the sum.
            loss_weight: multiplies :meth:`loss`.
        """
        super().__init__()
        self.in_features = tuple(in_features)
        self.fused_at = fused_at
        self.stride = stride
        self.loss_weight = loss_weight
        self.lateral_convs = nn.ModuleList(_conv(channels, 1) for _ in self.in_features)
        self.convs = nn.Sequential(*(_conv(channels, 3) for _ in range(num_convs)))
        self.embedding = _conv(channels, 1)
        self.predictor = Conv2d(channels, num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.bias)

    def forward(self, features: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            features: feature maps of N images.

        Returns:
            (N, channels, h, w) embedding and (N, num_classes, h, w) logits.
        """
        size = features[self.fused_at].shape[-2:]
        laterals = zip(self.lateral_convs, self.in_features)
        x = self.convs(sum(conv(_resize(features[name], size)) for conv, name in laterals))
        return self.embedding(x), self.predictor(x)

    def loss(self, logits: torch.Tensor, maps: Sequence[torch.Tensor | None]) -> torch.Tensor:
        """Cross-entropy against every ``stride``-th pixel, a mean over all pixels of the logits.

        Pixels that are ignored or padding count in the mean with a loss of 0, and so does an image
        without a map: images weigh the same, whatever they are batched with.

        Args:
            logits: (N, num_classes, h, w).
            maps: per image, (H, W) classes of its pixels, 255 for ignored ones; None for an image
                that has none.
        """
        targets = logits.new_full((len(maps), *logits.shape[-2:]), IGNORED, dtype=torch.int64)
        for target, labels in zip(targets, maps):
            if labels is not None:
                labels = labels[:: self.stride, :: self.stride]
                target[: labels.shape[0], : labels.shape[1]] = labels
        total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
        return self.loss_weight * total / targets.numel()


def _conv(channels: int, kernel_size: int) -> Conv2d:
    padding = kernel_size // 2
    conv = Conv2d(channels, channels, kernel_size, padding=padding, activation=nn.ReLU())
    c2_msra_fill(conv)
    return conv


def _resize(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)
