"""Labels that come with unlabeled images: which there are, and where they lie in a view."""

import copy

import numpy as np
import pytest
from detectron2.structures import BoxMode

from soft_teacher import ConfigError
from soft_teacher.data.unlabeled_annotations.precomputed import give_annotations, given_instances

BOX = {"bbox": [2, 3, 10, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 4, "score": 0.75}
CERTAIN = {"bbox": [1, 1, 4, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
CROWD = {**BOX, "iscrowd": 1}


def record(number=0, **fields):
    return {"file_name": f"{number}.jpg", "image_id": number, **fields}


def given(*dicts):
    """What is given with each image."""
    found = give_annotations("KEY 'name'", list(dicts))
    assert not any("annotations" in d for d in found)
    return [d["given_annotations"] for d in found]


def refusal(*dicts):
    with pytest.raises(ConfigError) as error:
        give_annotations("KEY 'name'", list(dicts))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is given


@pytest.mark.parametrize(
    "dicts",
    [
        [],
        [record(0), record(1)],
        [record(annotations=[])],
        [record(annotations=None)],
        [record(hidden_annotations=[BOX])],  # the truth is not given
    ],
)
def test_a_dataset_without_a_single_annotation_is_refused(dicts):
    said = refusal(*dicts)
    assert said.startswith("KEY 'name' has no annotations")
    assert "tools/label_images.py" in said and "SoftTeacher.label_source" in said


def test_an_image_without_annotations_has_no_object():
    dicts = [record(0, annotations=[BOX]), record(1, annotations=[]), record(2)]
    assert given(*dicts) == [[BOX], [], []]


def test_the_truth_stays_hidden():
    (found,) = give_annotations("", [record(annotations=[BOX], hidden_annotations=[CERTAIN])])
    assert found["given_annotations"] == [BOX] and found["hidden_annotations"] == [CERTAIN]


def test_crowds_are_no_objects():
    assert given(record(annotations=[CROWD, BOX, CERTAIN])) == [[BOX, CERTAIN]]


def test_masks_and_keypoints_are_not_carried_along():
    full = {**BOX, "segmentation": [[1.0] * 60], "keypoints": [1.0] * 51, "iscrowd": 0}
    assert given(record(annotations=[full])) == [[BOX]]


ODD = {
    "no box": {"bbox_mode": 0, "category_id": 0},
    "no class": {"bbox": [0, 0, 1, 1], "bbox_mode": 0},
    "relative": {**BOX, "bbox_mode": BoxMode.XYXY_REL},
    "rotated": {"bbox": [5, 5, 2, 2, 30], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_annotations_that_are_no_boxes_are_refused(odd):
    said = refusal(record(0, annotations=[BOX]), record(1, annotations=[BOX, odd]))
    assert said.startswith("KEY 'name': 1 images") and "first 1.jpg" in said


def test_the_dicts_are_left_alone():
    dicts = [record(0, annotations=[BOX, CROWD]), record(1)]
    before = copy.deepcopy(dicts)
    give_annotations("", dicts)
    assert dicts == before


# --- where it lies


def moved(annotations, matrix=None, size=(40, 60)):
    found = given_instances(annotations, np.eye(3) if matrix is None else matrix, size)
    assert found.image_size == size
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    return list(zip(boxes, classes, found.scores.tolist(), strict=True))


def test_nothing_lies_nowhere():
    assert moved([]) == []


def test_a_label_without_a_score_is_certain():
    assert moved([BOX, CERTAIN]) == [([2, 3, 10, 8], 4, 0.75), ([1, 1, 5, 5], 0, 1.0)]


def test_boxes_follow_the_view():
    flip_and_double = np.array([[-2.0, 0, 40], [0, 2, 0], [0, 0, 1]])
    assert moved([BOX], flip_and_double) == [([20, 6, 36, 16], 4, 0.75)]


def test_boxes_are_clipped_and_those_without_area_dropped_with_class_and_score():
    boxes = [[60, 0, 70, 10], [50, 30, 70, 50], [5, 5, 5, 9]]
    annotations = [
        {**BOX, "bbox": b, "category_id": n, "score": n / 4} for n, b in enumerate(boxes)
    ]
    assert moved(annotations) == [([50, 30, 60, 40], 1, 0.25)]
