"""How much each sampled box counts in the classification loss (section 3.2, Eq. 4-6, Table 8)."""

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

__all__ = [
    "INDICATORS",
    "FORMULAS",
    "NEEDS_TEACHER",
    "reliability",
    "overlap",
    "is_background",
    "classification_weights",
]

INDICATORS = ("bg_teacher", "bg_student", "pred_diff", "iou", "reverse_iou", "none")
NEEDS_TEACHER = ("bg_teacher", "pred_diff")
FORMULAS = ("paper", "reference")


def overlap(boxes: Boxes, pseudo: Boxes) -> torch.Tensor:
    """(n,) largest IoU of each of ``boxes`` with ``pseudo``, 0 where there is no pseudo box."""
    if len(pseudo) == 0:
        return boxes.tensor.new_zeros(len(boxes))
    return pairwise_iou(boxes, pseudo).amax(dim=1)


def is_background(boxes: Boxes, ignored: Boxes, matcher: Matcher) -> torch.Tensor:
    """(n,) whether each of ``boxes`` would be background if the ignored ones were pseudo boxes."""
    # The first threshold is -inf.
    return overlap(boxes, ignored) < matcher.thresholds[1]


def reliability(
    indicator: str,
    *,
    teacher_bg: torch.Tensor | None = None,
    student_bg: torch.Tensor | None = None,
    iou: torch.Tensor | None = None,
) -> torch.Tensor:
    """r of Eq. 5 for each box under one of the indicators of Table 8.

    Args:
        indicator: "bg_teacher" r = p_T(bg); "bg_student" r = p_S(bg);
            "pred_diff" r = 1 - |p_S(bg) - p_T(bg)| (Eq. 6); "iou" r = IoU with G_cls;
            "reverse_iou" r = 1 - IoU.
        teacher_bg, student_bg: (n,) background probabilities.
        iou: (n,) largest IoU with G_cls, see :func:`overlap`.

    Returns:
        (n,) float32 in [0, 1], detached: r weights the loss and gets no gradient.
    """
    if indicator == "bg_teacher":
        r = teacher_bg
    elif indicator == "bg_student":
        r = student_bg
    elif indicator == "pred_diff":
        r = 1 - (student_bg - teacher_bg).abs()
    elif indicator == "iou":
        r = iou
    else:
        r = 1 - iou
    return r.detach().float()


def classification_weights(
    foreground: torch.Tensor, r: torch.Tensor | None, formula: str
) -> torch.Tensor:
    """The coefficient of every sampled box in its classification loss.

    The loss is averaged over the boxes given: those of one image (Eq. 3), or of all images of a
    GPU (released code).

    Args:
        foreground: (n,) bool, True for boxes matched to a pseudo box.
        r: (n,) reliabilities, read at the backgrounds only; None for "w/o weight".
        formula: "paper": 1 / N_fg for foregrounds and r_j / sum(r) for backgrounds (Eq. 4, 5);
            "reference": (1 for foregrounds, r_j for backgrounds) / max(N_fg + sum(r), 1).

    Returns:
        (n,) float32. Without ``r`` every box counts 1 / n, Detectron2's own mean. A term with
        nothing in it (no foreground, sum of r = 0) has coefficients 0.
    """
    if r is None:
        return torch.full(foreground.shape, 1 / max(len(foreground), 1), device=foreground.device)
    is_fg = foreground.float()
    r = r * (1 - is_fg)
    total_fg, total_r = is_fg.sum(), r.sum()
    if formula == "reference":
        return (is_fg + r) / (total_fg + total_r).clamp(min=1)
    # A tiny floor instead of a branch, which would be a host-device sync: 0 / tiny = 0.
    tiny = torch.finfo(torch.float32).tiny
    return is_fg / total_fg.clamp(min=1) + r / total_r.clamp(min=tiny)
