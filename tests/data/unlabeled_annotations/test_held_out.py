"""Ground truth of unlabeled images: where it is known, and where it lies in a view."""

import copy

import numpy as np
import pytest
from detectron2.structures import BoxMode

from soft_teacher.data.unlabeled_annotations.held_out import hidden_instances, hide_annotations

BOX = {"bbox": [2, 3, 10, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 4}
CROWD = {**BOX, "iscrowd": 1}


def record(number=0, **fields):
    return {"file_name": f"{number}.jpg", "image_id": number, **fields}


def hidden(dicts, **options):
    """What is known of each image; None where nothing is."""
    found = hide_annotations(dicts, **options)
    assert not any("annotations" in d for d in found)
    return [d.get("hidden_annotations") for d in found]


# --- what is known


def test_no_images():
    assert hide_annotations([]) == []


def test_images_without_annotations_stay_as_they_are():
    assert hide_annotations([record(0), record(1)]) == [record(0), record(1)]


def test_a_dataset_without_a_single_annotation_has_no_truth():
    assert hidden([record(0, annotations=[]), record(1, annotations=None)]) == [None, None]


def test_beside_annotated_images_an_empty_list_says_that_there_is_nothing():
    dicts = [record(0, annotations=[BOX]), record(1, annotations=[]), record(2)]
    assert hidden(dicts) == [[BOX], [], None]


def test_annotations_that_are_hidden_already_stay_so():
    dicts = [record(0, hidden_annotations=[BOX]), record(1, hidden_annotations=[])]
    assert hide_annotations(dicts) == dicts


def test_crowds_are_no_objects():
    assert hidden([record(0, annotations=[CROWD, BOX]), record(1, annotations=[CROWD])]) == [
        [BOX],
        [],
    ]


def test_masks_and_keypoints_are_not_carried_along():
    full = {**BOX, "segmentation": [[1.0] * 60], "keypoints": [1.0] * 51, "iscrowd": 0}
    assert hidden([record(annotations=[full])]) == [[BOX]]


ODD = {
    "no box": {"bbox_mode": 0, "category_id": 0},
    "no class": {"bbox": [0, 0, 1, 1], "bbox_mode": 0},
    "no mode": {"bbox": [0, 0, 1, 1], "category_id": 0},
    "relative": {**BOX, "bbox_mode": BoxMode.XYXY_REL},
    "rotated": {"bbox": [5, 5, 2, 2, 30], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_annotations_that_cannot_be_compared_with_are_no_truth(odd):
    assert hidden([record(0, annotations=[BOX]), record(1, annotations=[odd])]) == [None, None]


def test_nothing_is_kept_unless_wanted():
    dicts = [record(0, annotations=[BOX]), record(1, hidden_annotations=[BOX])]
    assert hide_annotations(dicts, keep=False) == [record(0), record(1)]


def test_the_dicts_are_left_alone():
    dicts = [record(0, annotations=[BOX, CROWD]), record(1, hidden_annotations=[])]
    before = copy.deepcopy(dicts)
    hide_annotations(dicts)
    assert dicts == before


# --- where it lies


def moved(annotations, matrix=None, size=(40, 60)):
    found = hidden_instances(annotations, np.eye(3) if matrix is None else matrix, size)
    assert found.image_size == size
    return found.gt_boxes.tensor.tolist(), found.gt_classes.tolist()


def test_nothing_lies_nowhere():
    assert moved([]) == ([], [])


def test_boxes_of_both_modes():
    as_sides = {"bbox": [2, 3, 10, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    assert moved([BOX, as_sides]) == ([[2, 3, 10, 8], [2, 3, 12, 11]], [4, 1])


def test_boxes_follow_the_view():
    flip_and_double = np.array([[-2.0, 0, 40], [0, 2, 0], [0, 0, 1]])
    assert moved([BOX], flip_and_double) == ([[20, 6, 36, 16]], [4])


def test_boxes_are_clipped_and_those_without_area_dropped():
    boxes = [[50, 30, 70, 50], [60, 0, 70, 10], [5, 5, 5, 9]]
    annotations = [{**BOX, "bbox": b, "category_id": n} for n, b in enumerate(boxes)]
    assert moved(annotations) == ([[50, 30, 60, 40]], [0])
