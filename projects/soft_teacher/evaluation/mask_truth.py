"""Evaluation of masks on ground truth that has them, and of the boxes alone elsewhere."""

import functools
import json
import logging
import os

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n

from ..data.datasets.evaluated import evaluation_name

__all__ = ["KnownMasksEvaluator", "objects_without_mask"]

MASKS = "pred_masks"


class KnownMasksEvaluator(DatasetEvaluator):
    """Wraps an evaluator that finds its tasks in the predictions, as Detectron2's COCOEvaluator.

    COCO's evaluation fails where an object has no mask. The wrapped evaluator then sees predictions
    without masks, and evaluates their boxes; a warning says so once per run.
    """

    def __init__(self, evaluator: DatasetEvaluator, dataset: str):
        """
        Args:
            dataset: a registered dataset.
        """
        self.evaluator = evaluator
        self.dataset = dataset

    def reset(self):
        self.evaluator.reset()

    def process(self, inputs, outputs):
        """
        Args:
            inputs: samples.
            outputs: of a detector, each a dict of Instances; masks are ``pred_masks``.
        """
        if any(_has_masks(output) for output in outputs) and self._lacking[0]:
            outputs = [{k: _without_masks(v) for k, v in output.items()} for output in outputs]
            if comm.is_main_process():
                self._warn()
        self.evaluator.process(inputs, outputs)

    def evaluate(self):
        return self.evaluator.evaluate()

    @functools.cached_property
    def _lacking(self) -> tuple[int, int]:
        path = MetadataCatalog.get(evaluation_name(self.dataset)).get("json_file")
        return objects_without_mask(path) if path else (0, 0)

    def _warn(self) -> None:
        lacking, objects = self._lacking
        text = f"{lacking} of {objects} objects have no mask, so boxes alone are evaluated"
        log_first_n(logging.WARNING, f"{self.dataset}: {text}", name=__name__, key="message")


def objects_without_mask(json_file: str) -> tuple[int, int]:
    """How many of the objects in a COCO JSON have no mask to evaluate with, and of how many.

    A mask is a list of polygons or an RLE, in an image whose size is known.
    """
    path = PathManager.get_local_path(json_file)
    return _objects_without_mask(path, os.stat(path).st_mtime_ns)


@functools.lru_cache
def _objects_without_mask(path: str, modified: int) -> tuple[int, int]:
    """Read once as long as the file is not ``modified``."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    images, objects = content.get("images", []), content.get("annotations", [])
    sized = {image["id"] for image in images if {"height", "width"} <= image.keys()}
    known = (o["image_id"] in sized and _is_mask(o.get("segmentation")) for o in objects)
    return len(objects) - sum(known), len(objects)


def _is_mask(segmentation) -> bool:
    """Whether pycocotools makes a mask of it."""
    if isinstance(segmentation, dict):
        return {"counts", "size"} <= segmentation.keys()
    # It takes four numbers for a box, and fails at fewer.
    return isinstance(segmentation, list) and bool(segmentation) and len(segmentation[0]) > 4


def _has_masks(output: dict) -> bool:
    return any(isinstance(v, Instances) and v.has(MASKS) for v in output.values())


def _without_masks(value):
    if not isinstance(value, Instances):
        return value
    fields = {k: v for k, v in value.get_fields().items() if k != MASKS}
    return Instances(value.image_size, **fields)
