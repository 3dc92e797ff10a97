import numpy as np
import pytest
from detectron2.structures import BoxMode

from soft_teacher.analysis.annotations import annotated_boxes, boxed_annotations

XYWH = dict(bbox=[10, 20, 20, 15], bbox_mode=BoxMode.XYWH_ABS, category_id=3)
XYXY = dict(bbox=[50.5, 0, 60, 10], bbox_mode=BoxMode.XYXY_ABS, category_id=1, iscrowd=0)
CROWD = {**XYXY, "iscrowd": 1}
POINT = dict(category_id=8)


@pytest.mark.parametrize("image", [{}, {"annotations": []}, {"annotations": [CROWD, POINT]}])
def test_an_image_without_boxes_has_an_empty_array(image):
    boxes, classes = annotated_boxes(image)
    assert boxes.shape == (0, 4) and classes == [] and boxed_annotations(image) == []


def test_boxes_are_corners_in_order_without_crowds():
    image = {"annotations": [XYWH, CROWD, POINT, XYXY]}
    boxes, classes = annotated_boxes(image)
    np.testing.assert_array_equal(boxes, [[10, 20, 30, 35], [50.5, 0, 60, 10]])
    assert boxes.dtype == np.float64 and classes == [3, 1]
    assert boxed_annotations(image) == [XYWH, XYXY]
