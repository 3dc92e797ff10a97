"""A few images of a test dataset with a network's detections, to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_context
from detectron2.structures import Instances, PolygonMasks

from ..data.annotations import annotated_boxes, boxed_annotations
from ..data.datasets.evaluated import evaluation_name
from .mask_polygons import annotated_polygons, bitmap_polygons

__all__ = ["Example", "detect_examples", "evenly_spaced", "some_dicts"]


@dataclass(frozen=True)
class Example:
    """A test image with its ground truth and detections, in absolute pixels of the file's image.

    Attributes:
        file_name: of the image.
        image: as the detector saw it, uint8 (C, h, w).
        detections: on the CPU, with ``pred_boxes``, ``pred_classes``, ``scores`` and, of a detector
            of masks, ``pred_masks`` as PolygonMasks; its image size is that of the file's image.
        boxes: (n, 4) XYXY of the ground truth, without crowds.
        classes: their n class numbers.
        masks: of the n objects; one without a mask has no polygon.
    """

    file_name: str
    image: torch.Tensor
    detections: Instances
    boxes: np.ndarray
    classes: list[int]
    masks: PolygonMasks


def evenly_spaced(total: int, count: int) -> list[int]:
    """``count`` of the first ``total`` numbers, or all of them if there are fewer."""
    count = min(total, count)
    return [number * total // count for number in range(count)]


def some_dicts(dataset: str, count: int) -> list[dict]:
    """Evenly spaced dicts of a registered dataset as it is evaluated."""
    dicts = DatasetCatalog.get(evaluation_name(dataset))
    return [dicts[row] for row in evenly_spaced(len(dicts), count)]


@torch.no_grad()
def detect_examples(
    network: torch.nn.Module, dicts: Sequence[dict], mapper: Callable[[dict], dict]
) -> list[Example]:
    """Detects in some images as the evaluation does; unreadable ones are left out.

    Args:
        network: a detector; it detects in eval mode, and is in its own mode afterwards.
        dicts: in Detectron2's format.
        mapper: of the test loader.
    """
    samples = [(d, mapper(d)) for d in dicts]
    with inference_context(network):
        return [_detect(network, d, s) for d, s in samples if "unreadable" not in s]


def _detect(network: torch.nn.Module, dataset_dict: dict, sample: dict) -> Example:
    # Alone, as in the evaluation: a larger image in a batch would pad it.
    found = network([sample])[0]["instances"].to("cpu")
    if found.has("pred_masks"):  # many of the size of the image
        found.pred_masks = bitmap_polygons(found.pred_masks)
    boxes, classes = annotated_boxes(dataset_dict)
    masks = annotated_polygons(boxed_annotations(dataset_dict))
    return Example(dataset_dict["file_name"], sample["image"], found, boxes, classes, masks)
