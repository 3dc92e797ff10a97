"""Pictures of what was found."""

import cv2
import numpy as np
import pytest
from predictions import NAMES, instances

from soft_teacher.deploy.detections import Detections
from soft_teacher.deploy.outputs.pictures import draw, write_picture

IMAGE = np.full((60, 90, 3), 120, np.uint8)


def found(*args, **kwargs):
    return Detections.of(instances(*args, size=(60, 90), **kwargs), "a.png", "a")


def changed(picture):
    return (picture != IMAGE).any(axis=2)


def test_nothing_found_is_the_image():
    assert not changed(draw(IMAGE, found(), NAMES)).any()


def test_a_box_and_its_label_are_drawn_around_it():
    picture = changed(draw(IMAGE, found([[20, 30, 60, 50]], [0], [0.5]), NAMES))
    assert picture[30, 20:60].all() and picture[49, 20:60].all() and picture[30:50, 20].all()
    assert not picture[34:46, 24:56].any() and not picture[:10].any()
    assert picture[18:28, 20:50].any()
    assert (IMAGE == 120).all()


@pytest.mark.parametrize("box", [[0, 0, 90, 60], [-5, -5, 2, 2], [88, 58, 99, 99], [5, 5, 5, 5]])
@pytest.mark.parametrize("name", ["cat", "größte Katze & Co $x$", "猫", "x" * 200])
def test_boxes_and_names_of_any_kind_can_be_drawn(box, name):
    picture = draw(IMAGE, found([box], [0], [1.0]), [name])
    assert picture.shape == IMAGE.shape and changed(picture).any()


def test_classes_have_different_colours():
    one, other = (draw(IMAGE, found([[20, 30, 60, 50]], [n], [0.5]), "aaa") for n in (0, 1))
    assert (one[30, 40] != other[30, 40]).any()


def test_masks_shine_through():
    mask = np.zeros((60, 90), bool)
    mask[35:45, 30:50] = True
    picture = changed(draw(IMAGE, found([[20, 30, 60, 50]], [0], [0.5], masks=[mask]), NAMES))
    np.testing.assert_array_equal(picture[34:46, 24:56], mask[34:46, 24:56])


def test_a_picture_is_written_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "ü.jpg"
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :, 0] = 255
    write_picture(path, red)
    blue, _, found_red = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)[4, 4]
    assert found_red > 200 and blue < 50
    assert [p.name for p in path.parent.iterdir()] == ["ü.jpg"]
