"""How much each pixel of a pseudo mask counts in the mask loss."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

__all__ = ["is_certain", "mask_weights", "predicted_quality", "weighted_mask_loss"]


def predicted_quality(probabilities: torch.Tensor) -> torch.Tensor:
    """(n,) mean probability of the foreground pixels of (n, M, M) masks, those of at least 0.5.

    0 for a mask without any.
    """
    foreground = probabilities >= 0.5
    total = (probabilities.float() * foreground).sum(dim=(1, 2))
    return total / foreground.sum(dim=(1, 2)).clamp(min=1)


def is_certain(probabilities: torch.Tensor, margin: float) -> torch.Tensor:
    """Bool of the shape of ``probabilities``, False for those within ``margin`` of 0.5.

    Everything is certain to a margin of 0.
    """
    if not margin:
        return torch.ones_like(probabilities, dtype=torch.bool)
    return (probabilities - 0.5).abs() > margin


def mask_weights(
    certain: Sequence[torch.Tensor], quality: Sequence[torch.Tensor], average: str
) -> list[torch.Tensor]:
    """The coefficient of every pixel in the mask loss.

    With quality q_i of mask i and its certain pixels P_i, an image's loss is

        sum_i q_i sum_{p in P_i} l(p) / max(sum_i |P_i|, 1),

    which is Detectron2's mean over the pixels of all masks where all are certain and q is 1.

    Args:
        certain: per image, (n, M, M) bool of its n positives.
        quality: per image, (n,).
        average: "image" divides by the certain pixels of the image, then by the images (Eq. 3);
            "gpu" by those of all images.

    Returns:
        per image, (n, M, M) float32.
    """
    counts = [c.sum() for c in certain]
    if average == "gpu":
        counts = [sum(counts).clamp(min=1)] * len(counts)
    else:
        counts = [count.clamp(min=1) * len(counts) for count in counts]
    return [c * q[:, None, None] / count for c, q, count in zip(certain, quality, counts)]


def weighted_mask_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted sum of the pixels' binary cross-entropies; 0, with a gradient, without masks.

    Args:
        logits, targets, weights: (n, M, M), targets in [0, 1].
    """
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
    return (weights * losses).sum()
