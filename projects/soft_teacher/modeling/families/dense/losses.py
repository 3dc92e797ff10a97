"""Losses over all anchors, normalized image by image.

Detectron2's RetinaNet divides by a running mean of the number of positive anchors. Both streams
would share it, ranks would differ in it, and no checkpoint holds it: a resumed run would differ
from an uninterrupted one. Here every image is normalized by itself, and images are averaged, the
labeled (Eq. 2) and the unlabeled ones (Eq. 3).

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
    """How much each anchor's focal loss counts in its image's loss, Eq. 4 and 5 for anchors.

    With N_fg positive anchors and reliabilities r_j of the backgrounds,

        L_cls = (sum_i l(fg_i) + sum_j r_j l(bg_j)) / max(N_fg + sum_j (1 - r_j), 1).

    Eq. 4 has means over sampled boxes; a focal loss is a sum over all anchors, per positive. The
    denominator counts the positives of an unlabeled image, those that were found and those that
    the teacher suspects among the backgrounds. Divided by N_fg alone, images without pseudo boxes
    would outweigh all others and teach the student to detect nothing. With r = 1 everywhere this
    is RetinaNet's own loss.

    Args:
        labels: (N, R).
        reliability: (N, R) r in [0, 1], read at backgrounds only; None for 1 everywhere.

    Returns:
        (N, R) float32; 0 for ignored anchors.
    """
    positive = is_positive(labels, num_classes).float()
    background = (labels == num_classes).float()
    r = background if reliability is None else reliability * background
    count = (positive + background - r).sum(dim=1, keepdim=True)
    return (positive + r) / count.clamp(min=1)


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
    transform: Box2BoxTransform,
    **form,
) -> torch.Tensor:
    """Detectron2's dense box loss, divided by an image's positives; a mean over images.

    Args:
        anchors: R in all.
        deltas: (N, R, 4).
        positive: (N, R) bool.
        boxes: per image, the (R, 4) boxes that anchors are matched to, absolute XYXY.
        transform: between boxes and deltas.
        form: box_reg_loss_type and smooth_l1_beta.
    """
    images = zip(deltas.split(1), boxes, positive.split(1))
    sums = [
        _dense_box_regression_loss(anchors, transform, [d], [b], p, **form) for d, b, p in images
    ]
    return (torch.stack(sums) / positive.sum(dim=1).clamp(min=1)).mean()
