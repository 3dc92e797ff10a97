"""Annotations of unlabeled images that stand for detections of the teacher (multi-stage)."""

from typing import List

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from ...utils.errors import ConfigError
from ..values import as_number
from .boxes import boxes_in_view, is_box, is_crowd

__all__ = [
    "ANNOTATIONS",
    "INSTANCES",
    "LABEL_SOURCES",
    "SCORE",
    "give_annotations",
    "given_instances",
]

# Of an annotation: how sure the detector was that made it.
SCORE = "score"
# Keys of a dataset dict and of a sample.
ANNOTATIONS = "given_annotations"
INSTANCES = "given_instances"
# Where pseudo boxes come from.
LABEL_SOURCES = ("teacher", "dataset")


def give_annotations(where: str, dataset_dicts: List[dict]) -> List[dict]:
    """Dicts of one unlabeled dataset whose ``annotations`` are to be learned from.

    Args:
        where: names the dataset in messages.
        dataset_dicts: in Detectron2's format. Hidden annotations (:mod:`.held_out`) stay what
            they are: the truth, which is not given.

    Returns:
        copies with the annotations under ``given_annotations``, crowds left out; an image without
        annotations has no object.

    Raises:
        ConfigError: there is no annotation at all, or one is no box in absolute pixels.
    """
    given = [d.get("annotations") or [] for d in dataset_dicts]
    if not any(given):
        raise ConfigError(
            f"{where} has no annotations to learn from: label its images with "
            "tools/label_images.py, or set SoftTeacher.label_source to 'teacher'"
        )
    odd = [d for d, found in zip(dataset_dicts, given) if not all(map(_is_label, found))]
    if odd:
        raise ConfigError(
            f"{where}: {len(odd)} images have annotations that are no boxes in absolute pixels, "
            f"first {odd[0]['file_name']}: remove them"
        )
    return [
        {**_without_annotations(d), ANNOTATIONS: [_box(a) for a in found if not is_crowd(a)]}
        for d, found in zip(dataset_dicts, given)
    ]


def given_instances(annotations: List[dict], matrix: np.ndarray, image_size) -> Instances:
    """Given annotations in a view of their image, as a detector would have found them there.

    Args:
        annotations: as :func:`give_annotations` leaves them.
        matrix: (3, 3), image to view, absolute pixels.
        image_size: (height, width) of the view.

    Returns:
        Instances with ``pred_boxes`` (absolute pixels of the view, clipped, empty ones dropped),
        ``pred_classes`` and ``scores``; a label without a score is certain.
    """
    boxes, kept = boxes_in_view(annotations, matrix, image_size)
    return Instances(
        image_size,
        pred_boxes=Boxes(boxes),
        pred_classes=torch.tensor([a["category_id"] for a in kept], dtype=torch.int64),
        scores=torch.tensor([a.get(SCORE, 1.0) for a in kept], dtype=torch.float32),
    )


def _is_label(annotation: dict) -> bool:
    return is_box(annotation) and as_number(annotation.get(SCORE, 1.0)) is not None


def _without_annotations(record: dict) -> dict:
    return {k: v for k, v in record.items() if k != "annotations"}


def _box(annotation: dict) -> dict:
    keys = ("bbox", "bbox_mode", "category_id", SCORE)
    return {k: annotation[k] for k in keys if k in annotation}
