"""Pictures of detections and ground truth, with their masks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from matplotlib.colors import to_rgb
from PIL import Image

from soft_teacher.analysis.pictures import detect, draw_boxes, drawable, ground_truth_masks
from soft_teacher.monitoring.drawing import class_color

H, W = 20, 30
BOX = [4, 4, 24, 16]
SQUARE = [4, 4, 24, 4, 24, 16, 4, 16]
METADATA = SimpleNamespace(thing_classes=["cat", "dog"])
BLACK = np.zeros((H, W, 3), np.uint8)


def annotated(*segmentations):
    """An image with an object of class 1 for each of them; None for one without."""
    box = dict(bbox=BOX, bbox_mode=BoxMode.XYXY_ABS, category_id=1)
    objects = [{**box, **({} if s is None else {"segmentation": s})} for s in segmentations]
    return {"height": H, "width": W, "annotations": objects}


def test_an_image_without_objects_is_drawn_bare():
    assert not draw_boxes(BLACK, ground_truth_masks(annotated()), METADATA, side=120).any()


def inside(picture):
    """The mean colour in the middle of the box, without its label at the corner."""
    return picture[40:56, 60:88].mean(axis=(0, 1)) / 255


def test_masks_have_the_colour_of_their_class_at_the_scale_of_the_picture():
    plain = drawable((H, W), np.array([BOX]), [1])
    assert not inside(draw_boxes(BLACK, plain, METADATA, side=120)).any()
    picture = draw_boxes(BLACK, ground_truth_masks(annotated([SQUARE])), METADATA, side=120)
    color = np.array(to_rgb(class_color(1)))
    assert inside(picture) == pytest.approx(color / 2, abs=0.05)
    assert not picture[72:, :12].any()


def test_an_object_without_a_mask_is_drawn_beside_one_that_has_one():
    found = ground_truth_masks(annotated(None, [SQUARE]))
    assert found.pred_masks.polygons[0] == []
    assert inside(draw_boxes(BLACK, found, METADATA, side=120)).any()


@pytest.mark.parametrize("masks", [True, False])
def test_masks_of_a_network_are_polygons(masks, tmp_path):
    Image.fromarray(BLACK).save(tmp_path / "a.png")

    def network(inputs):
        boxes = Boxes(torch.tensor([BOX], dtype=torch.float32))
        found = Instances((H, W), pred_boxes=boxes, pred_classes=torch.tensor([0]))
        if masks:
            found.pred_masks = torch.ones(1, H, W, dtype=torch.bool)
        return [{"instances": found}]

    found = detect(network, {"file_name": str(tmp_path / "a.png")}, [], "BGR")
    assert found.has("pred_masks") == masks
    assert not masks or len(found.pred_masks.polygons[0]) == 1
