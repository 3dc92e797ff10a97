"""Annotations of unlabeled images: held-out ground truth, or precomputed pseudo labels.

Both go beside an image under keys of their own, since training must never read the ground truth of
an unlabeled image: held-out ground truth measures pseudo boxes, precomputed pseudo labels replace
the teacher's (multi-stage).
"""

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from ..geometry import clip_boxes, nonempty, transform_boxes
from ..utils.errors import ConfigError
from .masks import SEGMENTATION, Masks, box_probabilities, image_size, mask_fault, packed
from .values import as_box, as_number

__all__ = [
    "GIVEN_ANNOTATIONS",
    "GIVEN_INSTANCES",
    "HIDDEN_ANNOTATIONS",
    "HIDDEN_INSTANCES",
    "LABEL_SOURCES",
    "SCORE",
    "ground_truth_in_view",
    "hold_out_ground_truth",
    "pseudo_labels_in_view",
    "take_pseudo_labels",
]

# Keys of a dataset dict and of a sample.
HIDDEN_ANNOTATIONS, HIDDEN_INSTANCES = "hidden_annotations", "hidden_instances"
GIVEN_ANNOTATIONS, GIVEN_INSTANCES = "given_annotations", "given_instances"
# Of a precomputed annotation: the confidence of the detector that made it.
SCORE = "score"
# Where pseudo boxes come from.
LABEL_SOURCES = ("teacher", "dataset")
MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
# Keypoints are not kept, and masks only where they are wanted.
KEPT = ("bbox", "bbox_mode", "category_id")


def hold_out_ground_truth(
    dataset_dicts: list[dict], *, keep: bool = True, masks: bool = False
) -> list[dict]:
    """Dicts of one unlabeled dataset without ``annotations``.

    Args:
        dataset_dicts: in Detectron2's format; some may have held-out annotations already.
        keep: keep boxes and classes as ``hidden_annotations``, crowds left out. A dataset without
            a single annotation has no ground truth, rather than images without objects; so has
            one with annotations that are no boxes in absolute pixels.
        masks: keep masks as well if all objects of the dataset have one that can be used.

    Returns:
        copies; an image whose ground truth is known has ``hidden_annotations``, maybe empty.
    """
    known = [d.get("annotations", d.get(HIDDEN_ANNOTATIONS)) for d in dataset_dicts]
    bare = [_without(d, "annotations", HIDDEN_ANNOTATIONS) for d in dataset_dicts]
    if not (keep and any(known) and all(_is_box(a) for found in known for a in found or ())):
        return bare
    masks = masks and _have_masks(bare, known)
    return [
        d if found is None else {**d, HIDDEN_ANNOTATIONS: _objects(found, KEPT, masks)}
        for d, found in zip(bare, known)
    ]


def take_pseudo_labels(where: str, dataset_dicts: list[dict], *, masks: bool = False) -> list[dict]:
    """Dicts of one unlabeled dataset whose ``annotations`` are precomputed pseudo labels.

    Args:
        where: names the dataset in messages.
        dataset_dicts: in Detectron2's format; held-out annotations stay as they are.
        masks: keep masks as well if all objects of the dataset have one that can be used.

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
            "soft-teacher-label, or set SoftTeacher.label_source to 'teacher'"
        )
    odd = [d for d, found in zip(dataset_dicts, given) if not all(map(_is_pseudo_label, found))]
    if odd:
        raise ConfigError(
            f"{where}: {len(odd)} images have annotations that are no boxes in absolute pixels, "
            f"first {odd[0]['file_name']}: remove them"
        )
    masks = masks and _have_masks(dataset_dicts, given)
    return [
        {**_without(d, "annotations"), GIVEN_ANNOTATIONS: _objects(found, (*KEPT, SCORE), masks)}
        for d, found in zip(dataset_dicts, given)
    ]


def ground_truth_in_view(
    annotations: list[dict],
    matrix: np.ndarray,
    view_size: tuple[int, int],
    masks: Masks | None = None,
) -> Instances:
    """Held-out ground truth in a view of its image.

    Args:
        annotations: as :func:`hold_out_ground_truth` leaves them.
        matrix: (3, 3), image to view, absolute pixels.
        view_size: (height, width) of the view.
        masks: of the annotations in the view; None if they have none.

    Returns:
        Instances with ``gt_boxes`` (XYXY in absolute pixels of the view, clipped), ``gt_classes``
        and, if there are masks, ``gt_masks``. What has an empty box or mask is dropped.
    """
    boxes, classes, inside = _in_view(annotations, matrix, view_size, masks)
    found = Instances(view_size, gt_boxes=boxes[inside], gt_classes=classes[inside])
    if masks is not None:
        found.gt_masks = masks[inside]
    return found


def pseudo_labels_in_view(
    annotations: list[dict],
    matrix: np.ndarray,
    view_size: tuple[int, int],
    masks: Masks | None = None,
) -> Instances:
    """Precomputed pseudo labels as a detector would have found them in a view of their image.

    Returns:
        as :func:`ground_truth_in_view`, but ``pred_boxes``, ``pred_classes``, ``scores``, which
        is 1 where an annotation has none, and ``pred_masks`` (n, 1, 28, 28), on the boxes.
    """
    boxes, classes, inside = _in_view(annotations, matrix, view_size, masks)
    scores = torch.tensor([a.get(SCORE, 1.0) for a in annotations], dtype=torch.float32)
    found = Instances(view_size, pred_boxes=boxes[inside], pred_classes=classes[inside])
    found.scores = scores[inside]
    if masks is not None:
        found.pred_masks = box_probabilities(masks[inside], found.pred_boxes)
    return found


def _in_view(annotations: list[dict], matrix: np.ndarray, view_size, masks: Masks | None):
    """Boxes in a view, classes (int64), and which of both are not empty there."""
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    sides = np.array([a["bbox_mode"] == BoxMode.XYWH_ABS for a in annotations], dtype=bool)
    boxes[sides, 2:] += boxes[sides, :2]
    moved = transform_boxes(torch.from_numpy(boxes), torch.as_tensor(matrix))
    moved = clip_boxes(moved, view_size)
    inside = nonempty(moved)
    if masks is not None:
        inside &= masks.nonempty()
    classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)
    return Boxes(moved), classes, inside


def _is_box(annotation: dict) -> bool:
    """Whether an annotation is a box in absolute pixels that has a class."""
    return (
        as_box(annotation.get("bbox")) is not None
        and annotation.get("bbox_mode") in MODES
        and annotation.get("category_id") is not None
    )


def _is_pseudo_label(annotation: dict) -> bool:
    return _is_box(annotation) and as_number(annotation.get(SCORE, 1.0)) is not None


def _without(record: dict, *keys: str) -> dict:
    return {k: v for k, v in record.items() if k not in keys}


def _have_masks(dataset_dicts: list[dict], annotations: list[list[dict] | None]) -> bool:
    """Whether all objects have a mask that can be used."""
    return not any(
        mask_fault(a.get(SEGMENTATION), image_size(d))
        for d, found in zip(dataset_dicts, annotations)
        for a in found or ()
        if not a.get("iscrowd", 0)
    )


def _objects(annotations: list[dict], keys: tuple[str, ...], masks: bool) -> list[dict]:
    """Annotations with these keys alone, and with masks if wanted; crowds are no objects."""
    singles = [a for a in annotations if not a.get("iscrowd", 0)]
    return [
        {k: a[k] for k in keys if k in a}
        | ({SEGMENTATION: packed(a[SEGMENTATION])} if masks else {})
        for a in singles
    ]
