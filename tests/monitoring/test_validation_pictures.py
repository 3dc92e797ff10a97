"""The picture of some test images: which boxes it shows, and with which words."""

import numpy as np
import pytest
from examples import example
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from soft_teacher.monitoring.drawing import RIM, class_color
from soft_teacher.monitoring.validation_pictures import (
    DETECTED,
    TRUE,
    validation_figure,
    validation_picture,
)

LEFT, RIGHT, LOW = [4, 10, 24, 30], [34, 10, 54, 30], [2, 40, 12, 58]
SEEN = example(
    [(LEFT, 0, 0.98), (RIGHT, 1, 0.5), (LOW, 0, 0.49)],
    [(LEFT, 1), (LOW, 0)],
)


def boxes(axis):
    """(colour, XYXY) of every outline without its rim."""
    found = [
        (to_hex(p.get_edgecolor()), [*p.get_xy(), p.get_x() + p.get_width(),
         p.get_y() + p.get_height()]) for p in axis.patches
    ]  # fmt: skip
    return [(color, box) for color, box in found if color != RIM]


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_without_objects_and_detections_the_image_is_shown_bare():
    left, right = validation_figure([example()]).axes
    for axis in (left, right):
        assert boxes(axis) == words(axis) == [] and len(axis.images) == 1
    assert (left.get_title(), right.get_title()) == ("a.jpg: 0 objects", "no detection")


def test_the_ground_truth_is_beside_the_detections_that_are_certain_enough():
    left, right = validation_figure([SEEN], class_names=["cat", "dog"]).axes
    assert boxes(left) == [(TRUE.color, LEFT), (TRUE.color, LOW)]
    assert words(left) == ["dog", "cat"]
    # The most certain one is drawn last.
    assert boxes(right) == [(DETECTED.color, RIGHT), (DETECTED.color, LEFT)]
    assert words(right) == ["dog 0.50", "cat 0.98"]
    assert left.get_title() == "a.jpg: 2 objects"
    assert right.get_title() == "2 detected with 0.5 or more, best 0.98"


def test_what_is_too_uncertain_to_be_drawn_is_told_of():
    unsure = example([(LEFT, 0, 0.3), (LOW, 0, 0.1)], [(LEFT, 0)], file_name="b" * 50 + ".png")
    left, right = validation_figure([unsure]).axes
    assert boxes(right) == [] and right.get_title() == "0 detected with 0.5 or more, best 0.30"
    assert left.get_title() == f"...{'b' * 26}.png: 1 object"


def test_the_frame_is_that_of_the_file_though_the_detector_saw_another_size():
    for axis in validation_figure([SEEN]).axes:
        assert (axis.get_xlim(), axis.get_ylim()) == ((0, 80), (60, 0))
        assert axis.images[0].get_array().shape[:2] == (30, 40)


def test_there_is_a_row_for_every_image_under_the_title():
    figure = validation_figure([SEEN, example(), SEEN], title="after 7 steps")
    assert len(figure.axes) == 6 and figure.get_suptitle() == "after 7 steps"


def masks(axis):
    """The colours of the masks."""
    return [to_hex(p.get_facecolor()) for p in axis.patches if isinstance(p, PathPatch)]


def test_masks_have_the_colour_of_their_class_and_uncertain_ones_are_not_drawn():
    square = [[10, 5, 40, 5, 40, 30, 10, 30]]
    objects = [(LEFT, 1), (LOW, 0)]
    detections = [(LEFT, 1, 0.98), (LOW, 0, 0.4)]
    seen = example(detections, objects, masks=[square, square], true_masks=[square, []])
    left, right = validation_figure([seen]).axes
    assert masks(left) == masks(right) == [class_color(1)]
    assert masks(validation_figure([SEEN]).axes[1]) == []
    assert validation_picture([seen]).ndim == 3


@pytest.mark.parametrize("size", [(20, 80), (80, 20), (1, 300), (1, 1)])
def test_images_of_any_size_fit(size):
    picture = validation_picture([SEEN, example(size=size)])
    assert picture.dtype == np.uint8 and picture.ndim == 3 and max(picture.shape) < 1600
