"""The boxes of a dataset dict."""

import numpy as np
import pytest
from detectron2.structures import BoxMode

from soft_teacher.data.annotations import annotated_boxes, boxed_annotations

XYWH = dict(bbox=[10, 20, 20, 15], bbox_mode=BoxMode.XYWH_ABS, category_id=3)
XYXY = dict(bbox=[50.5, 0, 60, 10], bbox_mode=BoxMode.XYXY_ABS, category_id=1, iscrowd=0)
CROWD = {**XYXY, "iscrowd": 1, "category_id": 2}
EVERY = {"annotations": [XYWH, CROWD, dict(category_id=8), XYXY]}
CORNERS = [[10, 20, 30, 35], [50.5, 0, 60, 10]]


@pytest.mark.parametrize(
    "image, crowds, kept, boxes",
    [
        ({}, False, [], np.zeros((0, 4))),
        ({"annotations": []}, False, [], np.zeros((0, 4))),
        ({"annotations": [CROWD, dict(category_id=8)]}, False, [], np.zeros((0, 4))),
        (EVERY, False, [XYWH, XYXY], CORNERS),
        (EVERY, True, [CROWD], CORNERS[1:]),
    ],
)
def test_boxes_are_corners_in_order_of_single_objects_or_of_crowds(image, crowds, kept, boxes):
    found, classes = annotated_boxes(image, crowds=crowds)
    np.testing.assert_array_equal(found, boxes)
    assert found.dtype == np.float64 and classes == [a["category_id"] for a in kept]
    assert boxed_annotations(image, crowds=crowds) == kept
