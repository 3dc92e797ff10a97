"""The annotations of a dataset dict that are boxes of single objects."""

from typing import List, Tuple

import numpy as np
from detectron2.structures import BoxMode

__all__ = ["annotated_boxes", "boxed_annotations"]


def boxed_annotations(dataset_dict: dict) -> List[dict]:
    """The annotations of an image but for crowds and those without a box; none if it has none."""
    annotations = dataset_dict.get("annotations", ())
    return [a for a in annotations if "bbox" in a and not a.get("iscrowd", 0)]


def annotated_boxes(dataset_dict: dict) -> Tuple[np.ndarray, List[int]]:
    """What :func:`boxed_annotations` says.

    Returns:
        boxes, float64 (N, 4), XYXY in absolute pixels of the image; N category ids.
    """
    kept = boxed_annotations(dataset_dict)
    corners = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in kept]
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    return boxes, [a["category_id"] for a in kept]
