"""Losses over all anchors, normalised image by image.

Detectron2's RetinaNet divides by a running mean of the number of positive anchors. Both streams
would share it, it differs between ranks, and no checkpoint holds it, so that a resumed run would
not be the run that was interrupted. Here each image's sum is divided by its own number of
positives, at least 1, and images are averaged: labeled ones (Eq. 2) as well as unlabeled (Eq. 3).

Labels of anchors are Detectron2's: a class, K for background, -1 for an anchor that is ignored.
"""

import torch
from detectron2.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from detectron2.structures import Boxes
from fvcore.nn import sigmoid_focal_loss

__all__ = ["anchor_weights", "classification_loss", "is_positive", "regression_loss"]


def is_positive(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Bool of the shape of ``labels``, True for anchors that are matched to a box."""
    return (labels >= 0) & (labels < num_classes)


def anchor_weights(
    labels: torch.Tensor, num_classes: int, reliability: torch.Tensor | None = None
) -> torch.Tensor:
    """How much each anchor's focal loss counts in its image's loss.

    Eq. 4 and 5 for anchors. With N_fg positive and N_bg background anchors of an image,

        L_cls = 1 / max(N_fg, 1) * (sum_i l(fg_i) + sum_j w_j l(bg_j)),
        w_j = N_bg * r_j / sum_k r_k.

    A focal loss is a sum over all backgrounds, in units of the positives, where Eq. 4 has a mean
    of sampled boxes. So the weights add up to N_bg instead of 1, and RetinaNet's own loss is what
    remains where r is the same everywhere.

    Args:
        labels: (N, R).
        reliability: (N, R) r in [0, 1], read at backgrounds only; None for "w/o weight".

    Returns:
        (N, R) float32.
    """
    positive = is_positive(labels, num_classes).float()
    background = (labels == num_classes).float()
    weights = background
    if reliability is not None:
        r = reliability * background
        # A tiny floor instead of a branch: 0 / tiny = 0.
        total = r.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        weights = r / total * background.sum(dim=1, keepdim=True)
    return (positive + weights) / positive.sum(dim=1, keepdim=True).clamp(min=1)


def classification_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    reliability: torch.Tensor | None = None,
    *,
    alpha: float,
    gamma: float,
) -> torch.Tensor:
    """Weighted sigmoid focal loss, a mean over images.

    Args:
        logits: (N, R, K).
        labels, reliability: see :func:`anchor_weights`.
        alpha, gamma: of the focal loss.
    """
    num_classes = logits.shape[-1]
    targets = labels[..., None] == torch.arange(num_classes, device=labels.device)
    losses = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma).sum(dim=-1)
    return (anchor_weights(labels, num_classes, reliability) * losses).sum(dim=1).mean()


def regression_loss(
    anchors: list[Boxes],
    deltas: torch.Tensor,
    positive: torch.Tensor,
    boxes: list[torch.Tensor],
    *,
    transform: Box2BoxTransform,
    kind: str,
    beta: float,
) -> torch.Tensor:
    """Detectron2's dense box loss over positive anchors, a mean over images.

    Args:
        anchors: per level, R in all.
        deltas: (N, R, 4).
        positive: (N, R) bool.
        boxes: per image, the (R, 4) boxes that anchors are matched to, absolute XYXY.
        transform, kind, beta: RetinaNet's own settings.
    """
    sums = [
        _dense_box_regression_loss(
            anchors,
            transform,
            [deltas[image : image + 1]],
            [boxes[image]],
            positive[image : image + 1],
            box_reg_loss_type=kind,
            smooth_l1_beta=beta,
        )
        for image in range(len(boxes))
    ]
    return (torch.stack(sums) / positive.sum(dim=1).clamp(min=1)).mean()
