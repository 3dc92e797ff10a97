"""Boxes that travel beside an unlabeled image: from its annotations to a view of it."""

from typing import List, Tuple

import numpy as np
import torch
from detectron2.structures import BoxMode

from ...geometry import clip_boxes, nonempty, transform_boxes
from ..values import as_box

__all__ = ["boxes_in_view", "is_box", "is_crowd"]

MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def is_box(annotation: dict) -> bool:
    """Whether an annotation is a box in absolute pixels that has a class."""
    return (
        as_box(annotation.get("bbox")) is not None
        and annotation.get("bbox_mode") in MODES
        and annotation.get("category_id") is not None
    )


def is_crowd(annotation: dict) -> bool:
    """Whether an annotation is a crowd, which is no object."""
    return bool(annotation.get("iscrowd", 0))


def boxes_in_view(
    annotations: List[dict], matrix: np.ndarray, image_size: Tuple[int, int]
) -> Tuple[torch.Tensor, List[dict]]:
    """Annotations in a view of their image.

    Args:
        annotations: boxes, see :func:`is_box`.
        matrix: (3, 3), image to view, absolute pixels.
        image_size: (height, width) of the view.

    Returns:
        float32 (n, 4) XYXY in absolute pixels of the view, clipped, and the n annotations that
        they belong to; those that are empty in the view are dropped.
    """
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    sides = np.array([a["bbox_mode"] == BoxMode.XYWH_ABS for a in annotations], dtype=bool)
    boxes[sides, 2:] += boxes[sides, :2]
    moved = transform_boxes(torch.from_numpy(boxes), torch.as_tensor(matrix))
    moved = clip_boxes(moved, image_size)
    inside = nonempty(moved)
    return moved[inside], [a for a, kept in zip(annotations, inside.tolist()) if kept]
