"""Masks for the tests: smooth objects as a mask head predicts them, and polygons."""

import numpy as np
import torch
from detectron2.structures import Instances, PolygonMasks

SIDE = 28
# Of unlabeled images.
LEARN_MASKS = ("SOFT_TEACHER.MASK.ENABLED", True)
# The tiny Faster R-CNN with a mask head: logits of 14 x 14.
MASK_RCNN = (
    *("MODEL.MASK_ON", True, *LEARN_MASKS),
    *("MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 8),
    *("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 7),
)


def blobs(n: int, seed: int = 0) -> torch.Tensor:
    """(n, 28, 28) probabilities of smooth star-shaped objects that fill their boxes."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * 2 - 1
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    found = []
    for _ in range(n):
        waves = [
            rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
        ]
        edge = rng.uniform(0.7, 0.95) * (1 + sum(waves))
        found.append(1 / (1 + np.exp((radius - edge) * rng.uniform(8, 20))))
    return torch.tensor(np.array(found), dtype=torch.float32).view(n, SIDE, SIDE)


def with_pred_masks(detections: Instances, seed: int = 0) -> Instances:
    """The same detections with masks."""
    found = detections[:]
    found.pred_masks = blobs(len(found), seed)[:, None]
    return found


def with_polygons(targets: Instances) -> Instances:
    """The same ground truth; an object is the rhombus in its box."""
    found = targets[:]
    rhombi = []
    for x0, y0, x1, y1 in targets.gt_boxes.tensor.double().numpy():
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        rhombi.append([np.array([x, y0, x1, y, x, y1, x0, y])])
    found.gt_masks = PolygonMasks(rhombi)
    return found
