"""What a training step shows of its unlabeled images to whoever watches the training."""

from dataclasses import dataclass
from typing import List, Optional

import torch

from .pseudo_labels import PseudoLabels, TeacherBoxes

__all__ = ["COLUMNS", "StepView", "table"]

COLUMNS = (
    *("x0", "y0", "x1", "y1"),
    *("score", "class", "confident", "candidate", "variance", "stable"),
)


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
