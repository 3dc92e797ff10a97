"""Test images with detections, made by hand."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from soft_teacher.evaluation.examples import Example

SIZE = (60, 80)  # of the file's image; the detector saw half of it


def example(
    detections=(), objects=(), *, file_name="folder/a.jpg", size=SIZE, masks=None, true_masks=None
):
    """Both are lists of boxes with a class number, detections with a score, too.

    Masks are lists of polygons, for each of them.
    """
    boxes = [box for box, *_ in detections]
    found = Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor([d[1] for d in detections]).long(),
        scores=torch.tensor([d[2] for d in detections], dtype=torch.float32),
    )
    if masks is not None:
        found.pred_masks = PolygonMasks(masks)
    truth = np.array([box for box, _ in objects], dtype=np.float64).reshape(-1, 4)
    image = torch.zeros(3, max(size[0] // 2, 1), max(size[1] // 2, 1), dtype=torch.uint8)
    classes = [category for _, category in objects]
    true_masks = PolygonMasks([[] for _ in objects] if true_masks is None else true_masks)
    return Example(file_name, image, found, truth, classes, true_masks)
