"""What a training step shows of its unlabeled images to whoever watches the training."""

from dataclasses import dataclass, field
from typing import List, Optional

import torch
from detectron2.structures import Instances

__all__ = ["COLUMNS", "PseudoLabels", "StepView", "TeacherBoxes", "table"]

COLUMNS = (
    *("x0", "y0", "x1", "y1"),
    *("score", "class", "confident", "candidate", "variance", "stable"),
)


@dataclass(frozen=True)
class TeacherBoxes:
    """The teacher's detections on one image, and what becomes of them.

    Attributes:
        detections: Instances with ``pred_boxes`` (weak view, absolute XYXY), ``pred_classes`` and
            ``scores``.
        confident: (n,) int64 rows of ``detections`` that make up G_cls.
        candidates: (n,) int64 rows that are jittered; none without box jittering.
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
        classification: G_cls, Instances with ``gt_boxes`` and ``gt_classes``.
        regression: G_reg, likewise.
        chosen_from: per image, the detections that they were chosen from, in the weak view.
    """

    classification: List[Instances]
    regression: List[Instances]
    chosen_from: List[TeacherBoxes] = field(default_factory=list)


@dataclass(frozen=True)
class StepView:
    """A step's unlabeled images on one rank. Tensors stay where they are: on the device.

    Attributes:
        samples: the unlabeled images as they came from the loader.
        teacher_boxes: per image, the teacher's detections in the weak view.
        labels: G_cls and G_reg as the student gets them, in the strong view.
        background_reliability: mean r of the background samples, a scalar; None without weights.
    """

    samples: List[dict]
    teacher_boxes: List[TeacherBoxes]
    labels: PseudoLabels
    background_reliability: Optional[torch.Tensor]


def table(teacher_boxes: List[TeacherBoxes]) -> torch.Tensor:
    """The teacher's detections on a batch as one tensor, made without waiting for the device.

    Args:
        teacher_boxes: per image, at least one image.

    Returns:
        (n, 10) float32, a row per detection, images one after the other, with ``COLUMNS``:
        weak-view XYXY in absolute pixels, score, class; 1 for a box of G_cls; 1 for a jittered
        box; its variance, 0 for others; 1 for a box of G_reg.
    """
    boxes = [t.detections.pred_boxes.tensor for t in teacher_boxes]
    marks = [_marks(t) for t in teacher_boxes]
    scores = [t.detections.scores for t in teacher_boxes]
    classes = [t.detections.pred_classes for t in teacher_boxes]
    columns = [torch.cat(c).float()[:, None] for c in (scores, classes)]
    return torch.cat([torch.cat(boxes).float(), *columns, torch.cat(marks)], dim=1)


def _marks(boxes: TeacherBoxes) -> torch.Tensor:
    """(n, 4) float32: confident, candidate, variance, stable."""
    marks = torch.zeros(len(boxes.detections), 4, device=boxes.detections.scores.device)
    marks[:, 0].index_fill_(0, boxes.confident, 1)
    marks[:, 1].index_fill_(0, boxes.candidates, 1)
    marks[:, 2].index_copy_(0, boxes.candidates, boxes.variances.float())
    marks[:, 3].index_fill_(0, boxes.stable, 1)
    return marks
