"""Ground truth of unlabeled images: carried to measure pseudo boxes, never to train."""

from typing import List

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from ..geometry import clip_boxes, nonempty, transform_boxes

__all__ = ["ANNOTATIONS", "INSTANCES", "hide_annotations", "hidden_instances"]

# Keys of a dataset dict and of a sample.
ANNOTATIONS = "hidden_annotations"
INSTANCES = "hidden_instances"

MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def hide_annotations(dataset_dicts: List[dict], *, keep: bool = True) -> List[dict]:
    """Dicts of one unlabeled dataset without ``annotations``.

    Args:
        dataset_dicts: in Detectron2's format; some may have hidden annotations already.
        keep: keep boxes and classes as ``hidden_annotations``, crowds left out. A dataset without
            a single annotation has no ground truth, rather than images without objects; so has
            one with annotations that are no boxes in absolute pixels.

    Returns:
        copies; an image has ``hidden_annotations``, perhaps an empty list, if its truth is known.
    """
    truths = [d.get("annotations", d.get(ANNOTATIONS)) for d in dataset_dicts]
    bare = [
        {k: v for k, v in d.items() if k not in ("annotations", ANNOTATIONS)} for d in dataset_dicts
    ]
    known = keep and any(truths) and all(_is_box(a) for t in truths for a in t or ())
    if not known:
        return bare
    return [
        d if truth is None else {**d, ANNOTATIONS: [_box(a) for a in truth if not _is_crowd(a)]}
        for d, truth in zip(bare, truths)
    ]


def hidden_instances(annotations: List[dict], matrix: np.ndarray, image_size) -> Instances:
    """Hidden annotations in a view of their image.

    Args:
        annotations: as :func:`hide_annotations` leaves them.
        matrix: (3, 3), image to view, absolute pixels.
        image_size: (height, width) of the view.

    Returns:
        Instances with ``gt_boxes`` (absolute pixels of the view, clipped, empty ones dropped) and
        ``gt_classes``.
    """
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    sides = np.array([a["bbox_mode"] == BoxMode.XYWH_ABS for a in annotations], dtype=bool)
    boxes[sides, 2:] += boxes[sides, :2]
    moved = transform_boxes(torch.from_numpy(boxes), torch.as_tensor(matrix))
    moved = clip_boxes(moved, image_size)
    classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)
    inside = nonempty(moved)
    return Instances(image_size, gt_boxes=Boxes(moved[inside]), gt_classes=classes[inside])


def _is_box(annotation: dict) -> bool:
    box = annotation.get("bbox")
    return (
        box is not None
        and len(box) == 4
        and annotation.get("bbox_mode") in MODES
        and "category_id" in annotation
    )


def _is_crowd(annotation: dict) -> bool:
    return bool(annotation.get("iscrowd", 0))


def _box(annotation: dict) -> dict:
    """What measuring needs; masks and keypoints are not carried through the training."""
    return {k: annotation[k] for k in ("bbox", "bbox_mode", "category_id")}
