"""Views of steps, made by hand, for the tests of monitoring."""

import torch
from detectron2.structures import Boxes, Instances

from soft_teacher.modeling import PseudoLabels
from soft_teacher.modeling.step_record import StepView, TeacherBoxes

SIZE = (40, 60)
LEFT, RIGHT = [4, 10, 24, 30], [34, 10, 54, 30]


def targets(boxes=(), classes=(), size=SIZE):
    """Ground truth, or pseudo boxes as the student gets them."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(size, gt_boxes=Boxes(boxes), gt_classes=torch.tensor(classes).long())


def teacher_boxes(boxes=(), classes=(), scores=(), *, confident=(), variances=None, stable=()):
    """What a teacher found on an image; ``variances`` maps rows to values."""
    variances = variances or {}
    detections = Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes).long(),
        scores=torch.tensor(scores, dtype=torch.float32),
    )
    return TeacherBoxes(
        detections,
        torch.tensor(confident).long(),
        torch.tensor(list(variances)).long(),
        torch.tensor(list(variances.values()), dtype=torch.float32),
        torch.tensor(stable).long(),
    )


def targets_of(image, rows):
    """Pseudo boxes made of some of the teacher's."""
    chosen = image.detections[rows]
    return Instances(SIZE, gt_boxes=chosen.pred_boxes, gt_classes=chosen.pred_classes)


def step_view(*images, truths=None, reliability=None):
    """A step that saw ``images`` (TeacherBoxes); the strong view is the weak one.

    ``truths`` are Instances, or None for an image without known ground truth.
    """
    samples = [
        {
            "image": torch.zeros(3, *SIZE, dtype=torch.uint8),
            "weak_image": torch.zeros(3, *SIZE, dtype=torch.uint8),
            **({} if truth is None else {"hidden_instances": truth}),
        }
        for truth in truths or [None] * len(images)
    ]
    labels = PseudoLabels(
        [targets_of(i, i.confident) for i in images],
        [targets_of(i, i.stable) for i in images],
    )
    if reliability is not None:
        reliability = torch.tensor(reliability)
    return StepView(samples, list(images), labels, reliability)
