"""What a training step shows to its observers."""

from dataclasses import dataclass, field

import torch
from detectron2.structures import Boxes, Instances

__all__ = ["COLUMNS", "MOST_CLASSES", "PseudoLabels", "StepView", "TeacherBoxes", "table"]

# Of more classes than this only totals are logged and judged.
MOST_CLASSES = 20
COLUMNS = (
    *("x0", "y0", "x1", "y1"),
    *("score", "class", "confident", "candidate", "variance", "stable"),
)


@dataclass(frozen=True)
class TeacherBoxes:
    """The teacher's detections on one image, and what becomes of them.

    Attributes:
        detections: Instances with ``pred_boxes`` (weak view, absolute XYXY), ``pred_classes``,
            ``scores`` and, of a detector that learns masks, ``pred_masks``.
        confident: (n,) int64 rows of ``detections`` that make up G_cls.
        candidates: (n,) int64 rows whose stability is measured.
        variances: their (n,) box regression variances.
        stable: (n,) int64 rows that make up G_reg.
    """

    detections: Instances
    confident: torch.Tensor
    candidates: torch.Tensor
    variances: torch.Tensor
    stable: torch.Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo boxes of a batch, per image, in the student's view (strong, absolute XYXY).

    Attributes:
        classification: G_cls, Instances with ``gt_boxes``, ``gt_classes`` and, where there are
            masks, ``gt_masks``, a :class:`~.mask_transport.TransportedMasks`.
        regression: G_reg, likewise.
        chosen_from: per image, the detections that they were chosen from, in the weak view.
        ignored: per image, Boxes that are neither objects nor background; empty if there is no
            such band of scores.
    """

    classification: list[Instances]
    regression: list[Instances]
    chosen_from: list[TeacherBoxes] = field(default_factory=list)
    ignored: list[Boxes] = field(default_factory=list)


@dataclass(frozen=True)
class StepView:
    """A step's images on one rank. Tensors stay on the device.

    Attributes:
        samples: the unlabeled images as they came from the loader.
        teacher_boxes: per image, the teacher's detections in the weak view.
        labels: G_cls and G_reg as the student gets them, in the strong view.
        background_reliability: mean r of the background samples, a scalar; None without weights.
        labeled: the labeled images as they came from the loader, their ground truth on the host.
    """

    samples: list[dict]
    teacher_boxes: list[TeacherBoxes]
    labels: PseudoLabels
    background_reliability: torch.Tensor | None
    labeled: list[dict]


def table(teacher_boxes: list[TeacherBoxes]) -> torch.Tensor:
    """The detections of one or more images as one tensor, without a host-device sync.

    Returns:
        (n, 10) float32, a row per detection, images one after the other, with ``COLUMNS``:
        weak-view XYXY in absolute pixels, score, class; 1 for a box of G_cls; 1 for a measured
        box; its variance, 0 for others; 1 for a box of G_reg.
    """
    return torch.cat([_rows(t) for t in teacher_boxes])


def _rows(boxes: TeacherBoxes) -> torch.Tensor:
    found = boxes.detections
    rows = torch.zeros(len(found), len(COLUMNS), device=found.scores.device)
    rows[:, :4] = found.pred_boxes.tensor
    rows[:, 4] = found.scores
    rows[:, 5] = found.pred_classes
    rows[:, 6].index_fill_(0, boxes.confident, 1)
    rows[:, 7].index_fill_(0, boxes.candidates, 1)
    rows[:, 8].index_copy_(0, boxes.candidates, boxes.variances.float())
    rows[:, 9].index_fill_(0, boxes.stable, 1)
    return rows
