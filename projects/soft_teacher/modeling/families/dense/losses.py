"""Losses over all places of all levels, as sums; :mod:`.normalizers` has what divides them.

A place is an anchor of a RetinaNet or a point of an FCOS. Labels are Detectron2's: a class, K for
background, -1 for an anchor that is ignored.
"""

import torch
from fvcore.nn import sigmoid_focal_loss

__all__ = ["background_weights", "classification_loss", "is_positive"]


def is_positive(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Bool of the shape of ``labels``, True for places that are matched to a box."""
    return (labels >= 0) & (labels < num_classes)


def background_weights(
    labels: torch.Tensor, num_classes: int, r: torch.Tensor, formula: str
) -> torch.Tensor:
    """How much the focal loss of each place counts: Eq. 4 and 5 for a sum over all places.

    Args:
        labels: (N, R).
        r: (N, R) reliabilities, read at the backgrounds only.
        formula: "reference": w_j = r_j. "paper": w_j = r_j N_bg / sum(r), over the backgrounds of
            an image, so that they count as many as there are; all 0 if sum(r) = 0.

    Returns:
        (N, R) float32, 1 for foregrounds. All are 1 where r is.
    """
    background = labels == num_classes
    weights = r.float() * background
    if formula == "paper":
        tiny = torch.finfo(torch.float32).tiny
        total = weights.sum(dim=1, keepdim=True).clamp(min=tiny)
        weights = weights * (background.sum(dim=1, keepdim=True) / total)
    return weights.where(background, 1.0)


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    *,
    alpha: float,
    gamma: float,
) -> torch.Tensor:
    """The sum of Detectron2's focal losses, weighted; to the bit if all weights are 1.

    Args:
        logits: (N, R, K).
        labels: (N, R).
        weights: (N, R), see :func:`background_weights`; None for 1 everywhere.
        alpha, gamma: of the focal loss.
    """
    flat = labels.flatten()
    rows = torch.nonzero(flat >= 0).squeeze(1)  # a host-device sync
    logits = logits.flatten(0, 1)[rows]
    targets = flat[rows][:, None] == torch.arange(logits.shape[-1], device=labels.device)
    # Not the compiled one, whose gradients change in their last bits once it has been called twice:
    # a resumed run would end elsewhere.
    losses = sigmoid_focal_loss(
        logits, targets.to(logits.dtype), alpha=alpha, gamma=gamma, reduction="none"
    )
    if weights is not None:
        losses = losses * weights.flatten()[rows][:, None]
    return losses.sum()
