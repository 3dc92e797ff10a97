"""Whether the boxes of one computation are those of another."""

import torch
from detectron2.structures import Boxes, Instances, pairwise_iou

__all__ = ["kept", "score_changes"]


def kept(expected: Instances, found: Instances, *, iou: float) -> list[float]:
    """1 or 0 for every box of ``expected``: whether ``found`` has it, in place and class.

    Args:
        expected, found: boxes of one image, detections or ground truth, on any devices.
        iou: that the same box has at least.
    """
    return (_overlaps(expected, found) >= iou).any(dim=1).float().tolist()


def score_changes(expected: Instances, found: Instances, *, iou: float) -> list[float]:
    """Absolute change of the score of every detection that ``found`` still has."""
    overlaps = _overlaps(expected, found)
    if overlaps.numel() == 0:
        return []
    best, place = overlaps.max(dim=1)
    changes = (found.scores.cpu()[place] - expected.scores.cpu()).abs()
    return changes[best >= iou].tolist()


def _overlaps(a: Instances, b: Instances) -> torch.Tensor:
    """(n, m) IoU, 0 between boxes of two classes; on the CPU."""
    boxes, classes = zip(*map(_boxes_and_classes, (a, b)))
    return pairwise_iou(*boxes) * (classes[0][:, None] == classes[1])


def _boxes_and_classes(instances: Instances) -> tuple[Boxes, torch.Tensor]:
    kind = "pred" if instances.has("pred_boxes") else "gt"
    boxes = instances.get(f"{kind}_boxes").tensor.float().cpu()
    return Boxes(boxes), instances.get(f"{kind}_classes").cpu()
