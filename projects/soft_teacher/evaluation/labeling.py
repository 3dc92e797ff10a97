"""Precomputes pseudo labels with a trained detector: the first stage of multi-stage training."""

import logging
import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode, Instances
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ..data.datasets.dataset_dicts import class_names
from ..data.masks import SEGMENTATION, encoded
from ..utils.checks import check_fraction
from ..utils.errors import ConfigError

__all__ = ["check_label_threshold", "coco_categories", "label_images"]

logger = logging.getLogger(__name__)


def check_label_threshold(lowest: float, score_thresh: float, *, key: str) -> None:
    """Raises ConfigError unless a detector reports every box with a score above ``score_thresh``.

    It drops boxes with a score below ``lowest``, which the config calls ``key``.
    """
    check_fraction("--score-thresh", score_thresh)
    if score_thresh < lowest:
        raise ConfigError(
            f"--score-thresh {score_thresh:g} is below {key} ({lowest:g}), which drops such boxes: "
            "lower that key, too"
        )


def coco_categories(names: Sequence[str], num_classes: int) -> list[dict]:
    """COCO's ``categories`` of a detector, in the order of its class numbers.

    Args:
        names: the loaded datasets that it learned from.

    Returns:
        names and ids as in those datasets; where they have none, numbers and ids from 1 on.
    """
    classes = class_names(names) or [str(number) for number in range(num_classes)]
    found = (MetadataCatalog.get(n).get("thing_dataset_id_to_contiguous_id") for n in names)
    numbers = next((mapping for mapping in found if mapping), {})
    ids = sorted(numbers, key=numbers.get)
    # A reader numbers the classes in the order of their ids.
    if len(ids) != len(classes) or ids != sorted(ids):
        ids = range(1, len(classes) + 1)
    return [{"id": i, "name": name} for i, name in zip(ids, classes)]


@torch.no_grad()
def label_images(
    detector, loader: Iterable, *, score_thresh: float, categories: list[dict], info: dict
) -> dict:
    """Detects in all images and keeps confident boxes, as a dataset in COCO's format.

    Args:
        detector: a network of a model in eval mode.
        loader: batches of one image, see :class:`~soft_teacher.data.mapper.InferenceMapper`.
        score_thresh: boxes with a score above it are kept.
        categories: see :func:`coco_categories`.
        info: of the dataset; the number of unreadable images is added.

    Returns:
        COCO's dict. Images have absolute paths and are numbered from 1; those that cannot be read
        are named in the log and left out. Annotations have ``bbox`` (XYWH, absolute pixels of the
        image), ``category_id``, ``score`` and, by a detector of masks, ``segmentation``, an RLE of
        the image's size, whose pixels are then the ``area``.

    Raises:
        ConfigError: no image can be read.
    """
    images, annotations, unreadable = [], [], 0
    for (sample,) in tqdm(loader, "images"):
        if "unreadable" in sample:
            logger.warning("left out: %s", sample["unreadable"])
            unreadable += 1
            continue
        path = os.path.abspath(sample["file_name"])
        size = {"height": sample["height"], "width": sample["width"]}
        images.append({"id": len(images) + 1, "file_name": path, **size})
        found = detector([sample])[0]["instances"]
        for label in _annotations(found[found.scores > score_thresh], categories):
            place = {"id": len(annotations) + 1, "image_id": len(images)}
            annotations.append({**place, **label})
    if not images:
        raise ConfigError(f"none of {unreadable} images can be read: check the image folder")
    return {
        "info": {**info, "unreadable": unreadable},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotations(found: Instances, categories: list[dict]) -> list[dict]:
    """Detections of one image, without ids."""
    boxes = BoxMode.convert(found.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    columns = boxes.tolist(), found.pred_classes.tolist(), found.scores.tolist()
    labels = [
        {
            "category_id": categories[number]["id"],
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "score": score,
        }
        for box, number, score in zip(*columns)
    ]
    if not found.has("pred_masks"):
        return labels
    return [{**label, **_mask(mask)} for label, mask in zip(labels, found.pred_masks.cpu().numpy())]


def _mask(mask: np.ndarray) -> dict:
    """A bitmap (H, W) as COCO's JSON holds it."""
    rle = encoded(mask)
    return {SEGMENTATION: rle, "area": int(coco_mask.area(rle))}
