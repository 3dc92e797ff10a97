"""Held-out ground truth and precomputed pseudo labels, and both in a view of their image."""

import copy

import numpy as np
import pytest
from detectron2.structures import BoxMode

from soft_teacher import ConfigError
from soft_teacher.data.unlabeled_annotations import (
    ground_truth_in_view,
    hold_out_ground_truth,
    pseudo_labels_in_view,
    take_pseudo_labels,
)

BOX = {"bbox": [2, 3, 10, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 4}
SIDES = {"bbox": [1, 1, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
SCORED = {**BOX, "score": 0.75}
CROWD = {**BOX, "iscrowd": 1}
FULL = {**BOX, "segmentation": [[1.0] * 60], "keypoints": [1.0] * 51, "iscrowd": 0}
ODD = {
    "no box": {"bbox_mode": 0, "category_id": 0},
    "no class": {"bbox": [0, 0, 1, 1], "bbox_mode": 0},
    "no mode": {"bbox": [0, 0, 1, 1], "category_id": 0},
    "relative": {**BOX, "bbox_mode": BoxMode.XYXY_REL},
    "rotated": {"bbox": [5, 5, 2, 2, 30], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
}
every_odd_annotation = pytest.mark.parametrize("odd", ODD.values(), ids=ODD)


def records(*annotations, key="annotations"):
    """An image for each list of annotations; without any for an ellipsis."""
    return [
        {"file_name": f"{n}.jpg", "image_id": n, **({} if found is ... else {key: found})}
        for n, found in enumerate(annotations)
    ]


@pytest.mark.parametrize(
    "annotations, expected",
    [
        ([], []),
        ([..., ...], [..., ...]),
        ([[], None], [..., ...]),  # no ground truth rather than images without objects
        ([[BOX], [], ...], [[BOX], [], ...]),
        ([[CROWD, BOX], [CROWD]], [[BOX], []]),
        ([[FULL]], [[BOX]]),
    ],
)
def test_held_out_annotations_of_one_dataset(annotations, expected):
    dicts = records(*annotations)
    before = copy.deepcopy(dicts)
    assert hold_out_ground_truth(dicts) == records(*expected, key="hidden_annotations")
    assert dicts == before
    assert hold_out_ground_truth(dicts, keep=False) == records(*[...] * len(dicts))


def test_annotations_that_are_held_out_already_stay_so():
    dicts = records([BOX], [], key="hidden_annotations")
    assert hold_out_ground_truth(dicts) == dicts
    assert hold_out_ground_truth(dicts, keep=False) == records(..., ...)


@every_odd_annotation
def test_annotations_that_are_no_boxes_are_no_ground_truth(odd):
    assert hold_out_ground_truth(records([BOX], [odd])) == records(..., ...)


@pytest.mark.parametrize(
    "annotations, expected",
    [
        ([[BOX], [], ...], [[BOX], [], []]),
        ([[CROWD, SCORED, SIDES]], [[SCORED, SIDES]]),
        ([[FULL]], [[BOX]]),
    ],
)
def test_precomputed_pseudo_labels_of_one_dataset(annotations, expected):
    dicts = records(*annotations)
    before = copy.deepcopy(dicts)
    assert take_pseudo_labels("", dicts) == records(*expected, key="given_annotations")
    assert dicts == before


def test_held_out_ground_truth_is_no_pseudo_label():
    (found,) = take_pseudo_labels("", [{"annotations": [BOX], "hidden_annotations": [SIDES]}])
    assert found == {"given_annotations": [BOX], "hidden_annotations": [SIDES]}


@pytest.mark.parametrize(
    "dicts", [[], records(..., ...), records([], None), records([BOX], key="hidden_annotations")]
)
def test_a_dataset_without_a_pseudo_label_is_refused(dicts):
    with pytest.raises(ConfigError, match="KEY 'name' has no annotations") as error:
        take_pseudo_labels("KEY 'name'", dicts)
    for words in ("soft-teacher-label", "SoftTeacher.label_source"):
        assert words in str(error.value)


@every_odd_annotation
def test_annotations_that_are_no_boxes_are_refused_as_pseudo_labels(odd):
    with pytest.raises(ConfigError, match="KEY 'name': 1 images .* first 1.jpg"):
        take_pseudo_labels("KEY 'name'", records([BOX], [BOX, odd]))


FLIP_AND_DOUBLE = np.array([[-2.0, 0, 40], [0, 2, 0], [0, 0, 1]])
CLIPPED = [
    {**SCORED, "bbox": box, "score": n / 4, "category_id": n}
    for n, box in enumerate([[60, 0, 70, 10], [50, 30, 70, 50], [5, 5, 5, 9]])
]


@pytest.mark.parametrize(
    "annotations, matrix, expected",
    [
        ([], np.eye(3), []),
        ([SCORED, SIDES], np.eye(3), [([2, 3, 10, 8], 4, 0.75), ([1, 1, 5, 5], 0, 1.0)]),
        ([SCORED], FLIP_AND_DOUBLE, [([20, 6, 36, 16], 4, 0.75)]),
        (CLIPPED, np.eye(3), [([50, 30, 60, 40], 1, 0.25)]),
    ],
    ids=["nothing", "both modes, no score is 1", "the view moves them", "clipped or dropped"],
)
def test_annotations_in_a_view(annotations, matrix, expected):
    given = pseudo_labels_in_view(annotations, matrix, (40, 60))
    boxes, classes = given.pred_boxes.tensor.tolist(), given.pred_classes.tolist()
    assert list(zip(boxes, classes, given.scores.tolist(), strict=True)) == expected
    truth = ground_truth_in_view(annotations, matrix, (40, 60))
    boxes, classes = truth.gt_boxes.tensor.tolist(), truth.gt_classes.tolist()
    assert list(zip(boxes, classes, strict=True)) == [found[:2] for found in expected]
    assert given.image_size == truth.image_size == (40, 60)
