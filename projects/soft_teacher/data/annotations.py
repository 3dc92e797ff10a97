"""The annotations of a dataset dict that are boxes of single objects, or of crowds."""

import numpy as np
from detectron2.structures import BoxMode

__all__ = ["annotated_boxes", "boxed_annotations"]


def boxed_annotations(dataset_dict: dict, *, crowds: bool = False) -> list[dict]:
    """The annotations of an image with a box: those of single objects, or of crowds."""
    annotations = dataset_dict.get("annotations", ())
    return [a for a in annotations if "bbox" in a and bool(a.get("iscrowd", 0)) == crowds]


def annotated_boxes(dataset_dict: dict, *, crowds: bool = False) -> tuple[np.ndarray, list[int]]:
    """The boxes of :func:`boxed_annotations`.

    Returns:
        boxes, float64 (N, 4), XYXY in absolute pixels of the image; N category ids.
    """
    kept = boxed_annotations(dataset_dict, crowds=crowds)
    corners = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in kept]
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    return boxes, [a["category_id"] for a in kept]
