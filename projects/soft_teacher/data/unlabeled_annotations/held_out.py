"""Ground truth of unlabeled images: carried to measure pseudo boxes, never to train."""

from typing import List

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from .boxes import boxes_in_view, is_box, is_crowd

__all__ = ["ANNOTATIONS", "INSTANCES", "hide_annotations", "hidden_instances"]

# Keys of a dataset dict and of a sample.
ANNOTATIONS = "hidden_annotations"
INSTANCES = "hidden_instances"


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
    known = keep and any(truths) and all(is_box(a) for t in truths for a in t or ())
    if not known:
        return bare
    return [
        d if truth is None else {**d, ANNOTATIONS: [_box(a) for a in truth if not is_crowd(a)]}
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
    boxes, kept = boxes_in_view(annotations, matrix, image_size)
    classes = torch.tensor([a["category_id"] for a in kept], dtype=torch.int64)
    return Instances(image_size, gt_boxes=Boxes(boxes), gt_classes=classes)


def _box(annotation: dict) -> dict:
    """What measuring needs; masks and keypoints are not carried through the training."""
    return {k: annotation[k] for k in ("bbox", "bbox_mode", "category_id")}
