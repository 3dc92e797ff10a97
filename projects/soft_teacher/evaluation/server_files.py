"""Detections in the files that COCO's evaluation server takes, one for boxes and one for masks."""

import json
import logging
import os

from detectron2.evaluation import COCOEvaluator, DatasetEvaluator
from detectron2.utils import comm

from ..utils.atomic import atomic_write

__all__ = ["BOXES", "MASKS", "ServerFilesEvaluator"]

# What Detectron2 writes.
RESULTS = "coco_instances_results.json"
BOXES, MASKS = "server_bbox.json", "server_segm.json"
# File -> the field of a detection that it needs and the one that it must not have: by the area of
# a box that it finds there the server would take a mask for a large or a small one.
FIELDS = {BOXES: ("bbox", "segmentation"), MASKS: ("segmentation", "bbox")}

logger = logging.getLogger(__name__)


class ServerFilesEvaluator(DatasetEvaluator):
    """Wraps Detectron2's COCOEvaluator for a dataset without annotations.

    Writes its detections beside what it writes, and measures nothing.
    """

    def __init__(self, evaluator: COCOEvaluator):
        self.evaluator = evaluator

    def reset(self):
        self.evaluator.reset()

    def process(self, inputs, outputs):
        self.evaluator.process(inputs, outputs)

    def evaluate(self) -> dict:
        self.evaluator.evaluate()
        # As Detectron2's, which keeps it for itself.
        folder = self.evaluator._output_dir
        if folder and comm.is_main_process():
            for path in write_server_files(folder):
                logger.info(f"written for an evaluation server: {path}")
        return {}


def write_server_files(folder: str) -> list[str]:
    """Splits the detections in a folder by tasks; a task without any has no file.

    Returns:
        paths of what was written.
    """
    results = os.path.join(folder, RESULTS)
    if not os.path.isfile(results):  # of no image
        return []
    with open(results, encoding="utf-8") as file:
        detections = json.load(file)
    written = []
    for name, (field, other) in FIELDS.items():
        rows = [{k: v for k, v in d.items() if k != other} for d in detections if field in d]
        if rows:
            written.append(os.path.join(folder, name))
            with atomic_write(written[-1]) as file:
                json.dump(rows, file)
    return written
