"""A network's detections on images with ground truth, each with its verdict."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from ..data.annotations import annotated_boxes, boxed_annotations
from ..data.streams.seeds import sample_seed, shuffled
from ..evaluation.pseudo_label_quality import (
    NO_OBJECT,
    box_iou,
    judge_boxes,
    matched_objects,
)
from ..evaluation.pseudo_mask_quality import bitmap_iou
from ..evaluation.stability import detect_with_variances
from ..experiment.trained import Trained

__all__ = ["MeasuredBoxes", "choose_images", "join", "measure"]


@dataclass(frozen=True)
class MeasuredBoxes:
    """Detections on one image, or on many.

    Attributes:
        boxes: (n, 4) XYXY, absolute pixels of the original image.
        classes, scores: (n,).
        variances: (n,) box regression variance (Eq. 8); NaN for boxes that were not measured.
        overlaps: (n,) largest IoU with an object of any class, 0 where there is none.
        mask_overlaps: (n,) IoU of the mask with that of the object that the box found; NaN where it
            found none, or one of both has no mask.
        hits: (n,) bool, boxes that found an object of their class at IoU 0.5; each object is
            found once.
        neutral: (n,) bool, boxes in a crowd, which are neither right nor wrong.
        objects: (K,) int, objects of each class; crowds do not count.
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    variances: np.ndarray
    overlaps: np.ndarray
    mask_overlaps: np.ndarray
    hits: np.ndarray
    neutral: np.ndarray
    objects: np.ndarray

    def where(self, rows: np.ndarray) -> "MeasuredBoxes":
        """Some of the boxes, by mask or by numbers."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return MeasuredBoxes(**columns, objects=self.objects)


COLUMNS = [field.name for field in fields(MeasuredBoxes) if field.name != "objects"]


def join(parts: Sequence[MeasuredBoxes]) -> MeasuredBoxes:
    """The boxes of several images, at least one."""
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
    return MeasuredBoxes(**columns, objects=sum(p.objects for p in parts))


def choose_images(dicts: list[dict], count: int | None, seed: int) -> list[dict]:
    """``count`` of the images in their order, sampled without replacement; all of them for None.

    The sample of a smaller count is part of that of a larger one.
    """
    if count is None:
        return dicts
    return [dicts[n] for n in sorted(shuffled(len(dicts), seed)[:count])]


def measure(
    trained: Trained,
    network: str,
    dicts: list[dict],
    *,
    variances: bool = True,
    seed: int = 0,
    title: str = "images",
) -> dict[int, MeasuredBoxes]:
    """Lets a network label images as in training, one at a time, and compares with ground truth.

    Args:
        trained: the model; its mapper makes the weak view, in which boxes are jittered.
        network: "student" or "teacher".
        dicts: images with ``annotations``, at least one.
        variances: measure box regression variance, too, if the family of the detector can.
        seed: of the jitter.
        title: of the progress bar.

    Returns:
        number of the image -> its boxes; unreadable images are reported and left out.
    """
    found = {}
    progress = tqdm(trained.loader(dicts), title, len(dicts), mininterval=1)
    for number, (sample,) in enumerate(progress):
        if "unreadable" in sample:
            tqdm.write(f"left out: {sample['unreadable']}", file=sys.stderr)
            continue
        jitter_seed = sample_seed(seed, number) if variances else None
        detections = _detections(trained, network, sample, jitter_seed)
        found[number] = _judged(detections, dicts[number], trained.num_classes)
    return found


def _detections(trained: Trained, network: str, sample: dict, seed: int | None) -> Instances:
    """With ``variances``, which are NaN without a seed, in the image's own pixels, on the CPU."""
    model = trained.model
    measured = None if seed is None else lambda d: d.scores > model.pseudo_labeler.candidate_thresh
    detector = getattr(model, network)
    (found,) = detect_with_variances(model.family, detector, [sample], measured, [seed])
    return found


def _judged(detections: Instances, dataset_dict: dict, num_classes: int) -> MeasuredBoxes:
    boxes = detections.pred_boxes.tensor.double().numpy()
    classes, scores = detections.pred_classes.numpy(), detections.scores.double().numpy()
    objects, object_classes = annotated_boxes(dataset_dict)
    crowds = annotated_boxes(dataset_dict, crowds=True)
    hits, neutral = judge_boxes(boxes, classes, scores, objects, object_classes, crowds)
    return MeasuredBoxes(
        boxes=boxes,
        classes=classes,
        scores=scores,
        variances=detections.variances.double().numpy(),
        overlaps=box_iou(boxes, objects).max(axis=1, initial=0),
        mask_overlaps=_mask_overlaps(detections, dataset_dict),
        hits=hits,
        neutral=neutral,
        objects=np.bincount(np.array(object_classes, dtype=int), minlength=num_classes),
    )


def _mask_overlaps(detections: Instances, dataset_dict: dict) -> np.ndarray:
    overlaps = np.full(len(detections), np.nan)
    if not detections.has("pred_masks"):
        return overlaps
    columns = detections.pred_boxes.tensor.double(), detections.pred_classes, detections.scores
    found = matched_objects(*(c.numpy() for c in columns), *annotated_boxes(dataset_dict))
    objects = boxed_annotations(dataset_dict)
    for row in np.flatnonzero(found != NO_OBJECT).tolist():
        if segmentation := objects[found[row]].get("segmentation"):
            overlaps[row] = bitmap_iou(detections.pred_masks[row].numpy(), segmentation)
    return overlaps
