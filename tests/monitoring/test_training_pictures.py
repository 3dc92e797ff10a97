"""The picture of a step: which boxes it shows, in which colour, with which words."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from watching import LEFT, RIGHT, SIZE, step_view, teacher_boxes

from soft_teacher.monitoring.drawing import RIM, class_color
from soft_teacher.monitoring.training_pictures import (
    MOST_DROPPED,
    STYLES,
    training_figure,
    training_picture,
)

LOW = [2, 20, 12, 38]
# Kept for both; for classification alone; for regression alone; dropped though jittered.
BOXES = [LEFT, RIGHT, LOW, [30, 4, 50, 24]]
SEEN = teacher_boxes(
    BOXES,
    [0, 1, 0, 1],
    [0.98, 0.95, 0.6, 0.55],
    confident=[0, 1],
    variances={0: 0.011, 1: 0.03, 2: 0.012, 3: 0.04},
    stable=[0, 2],
)
CLASS, REG, DROPPED = (STYLES[k].color for k in ("classification", "regression", "dropped"))


def outlines(axis):
    """(colour, XYXY) of every outline, in the order they are drawn; without their rims."""
    found = [
        (to_hex(p.get_edgecolor()), [p.get_x(), p.get_y(), p.get_x() + p.get_width(),
         p.get_y() + p.get_height()]) for p in axis.patches
    ]  # fmt: skip
    return [(color, box) for color, box in found if color != RIM]


def words(axis):
    """(text, colour of its paper) of every text."""
    return [(t.get_text(), to_hex(t.get_bbox_patch().get_facecolor())) for t in axis.texts]


def axes(*images, **options):
    return training_figure(step_view(*images), **options).axes


# --- boxes and words


def test_without_detections_both_views_are_shown_bare():
    for axis in axes(teacher_boxes()):
        assert outlines(axis) == words(axis) == []
        assert len(axis.images) == 1 and axis.get_title()


def test_the_source_of_the_boxes_is_named():
    view = step_view(SEEN)
    assert training_figure(view).axes[0].get_title() == "weak view: what the teacher finds"
    view.samples[0]["given_instances"] = SEEN.detections
    assert training_figure(view).axes[0].get_title() == "weak view: precomputed pseudo labels"


def test_boxes_have_the_colour_of_their_use_the_kept_ones_over_the_dropped_ones():
    weak, strong = axes(SEEN)
    first, second, third, fourth = BOXES
    kept = [(CLASS, first), (CLASS, second), (REG, first), (REG, third)]
    assert sorted(outlines(weak)) == sorted([*kept, (DROPPED, fourth)])
    assert sorted(outlines(strong)) == sorted(kept)
    colors = [color for color, _ in outlines(weak)]
    assert colors.index(CLASS) > colors.index(DROPPED)


def test_boxes_show_class_and_those_of_the_teacher_score_and_variance():
    weak, strong = axes(SEEN, class_names=["cat", "dog"])
    assert sorted(words(weak)) == [
        ("cat 0.60 var 0.012", REG),
        ("cat 0.98 var 0.011", CLASS),
        ("dog 0.55 var 0.040", DROPPED),
        ("dog 0.95 var 0.030", CLASS),
    ]
    expected = [("cat", CLASS), ("dog", CLASS), ("cat", REG), ("cat", REG)]
    assert sorted(words(strong)) == sorted(expected)


def test_without_jitter_there_is_no_variance_and_without_a_name_a_number():
    weak, _ = axes(teacher_boxes([LEFT, RIGHT], [0, 7], [0.3, 0.2]), class_names=["cat"])
    assert sorted(words(weak)) == [("7 0.20", DROPPED), ("cat 0.30", DROPPED)]


def test_of_many_dropped_boxes_the_most_confident_are_drawn():
    count = MOST_DROPPED + 5
    scores = [0.01 * (n + 1) for n in range(count)]
    boxes = [[n, n, n + 5.0, n + 5.0] for n in range(count)]
    kept = [0, 1]  # the least confident, and kept nevertheless
    weak, _ = axes(teacher_boxes(boxes, [0] * count, scores, confident=kept))
    drawn = {int(box[0]) for color, box in outlines(weak) if color == DROPPED}
    assert drawn == set(range(count - MOST_DROPPED, count))
    assert {int(box[0]) for color, box in outlines(weak) if color == CLASS} == {0, 1}


@pytest.mark.parametrize("top", [0, 12])
def test_words_stay_inside_the_view(top):
    box = [10, top, 30, SIZE[0]]
    seen = teacher_boxes([box], [0], [0.95], confident=[0], stable=[0])
    for axis in axes(seen):
        for text in axis.texts:
            y = text.get_position()[1]
            above = text.get_va() == "bottom"
            assert (y > 0.02 * SIZE[0]) if above else (y < 0.98 * SIZE[0])


def test_the_first_image_is_drawn():
    weak, strong = axes(teacher_boxes(), SEEN)
    assert outlines(weak) == outlines(strong) == []


def test_the_legend_names_the_three_uses():
    figure = training_figure(step_view(SEEN), title="step 7")
    (legend,) = figure.legends
    colors = [color for line in legend.findobj(Line2D) if (color := line.get_color()) != RIM]
    found = dict(zip((text.get_text() for text in legend.get_texts()), colors, strict=True))
    kept = {"kept for classification": CLASS, "kept for regression": REG}
    assert found == {**kept, "dropped": DROPPED}
    assert figure.get_suptitle() == "step 7"


# --- masks


def masks(axis):
    """(colour, XYXY of the outline) of every mask."""
    found = [(p.get_facecolor(), p.get_path().get_extents()) for p in axis.patches
             if isinstance(p, PathPatch)]  # fmt: skip
    return [(to_hex(color), box.extents.round(1).tolist()) for color, box in found]


def inner(box):
    """Through the centres of the outermost pixels."""
    return [box[0] + 0.5, box[1] + 0.5, box[2] - 0.5, box[3] - 0.5]


def test_masks_of_kept_boxes_have_the_colour_of_their_class_and_the_student_those_it_learns():
    seen = teacher_boxes(
        BOXES, [0, 1, 0, 1], [0.98, 0.95, 0.6, 0.55], confident=[0, 1], stable=[0, 2],
        masks=np.ones((4, 28, 28)),
    )  # fmt: skip
    weak, strong = axes(seen)
    expected = [(class_color(c), inner(box)) for c, box in zip((0, 1, 0), BOXES)]
    assert sorted(masks(weak)) == sorted(expected)
    assert sorted(masks(strong)) == sorted([expected[0], expected[2]])
    assert masks(axes(SEEN)[0]) == []


def test_without_a_kept_box_or_a_likely_pixel_there_is_no_mask():
    nothing = teacher_boxes(masks=np.zeros((0, 28, 28)))
    empty = teacher_boxes([LEFT], [0], [0.9], confident=[0], stable=[0], masks=np.zeros((1, 8, 8)))
    assert [masks(axis) for axis in [*axes(nothing), *axes(empty)]] == [[]] * 4


# --- pixels


def near(picture, color, tolerance=12):
    """bool (H, W): pixels of a colour."""
    return (np.abs(picture.astype(int) - np.array(to_rgb(color)) * 255) < tolerance).all(axis=2)


def test_it_is_an_rgb_image_with_boxes_on_both_sides():
    picture = training_picture(step_view(SEEN))
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    height, width = picture.shape[:2]
    # Without titles, legend and frames, which are light, too.
    views = picture[int(0.15 * height) : int(0.85 * height)]
    weak, strong = (views[:, int(x * width) : int((x + 0.44) * width)] for x in (0.03, 0.53))
    for color, both in ((CLASS, True), (REG, True), (DROPPED, False)):
        # A thin line does not fill its pixels.
        assert near(weak, color, 60).sum() > 100, color
        assert (near(strong, color, 60).sum() > 100) == both, color


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_colours_are_those_of_the_photograph(image_format):
    view = step_view(teacher_boxes())
    red = torch.zeros(3, *SIZE, dtype=torch.uint8)
    red[2 if image_format == "BGR" else 0] = 255
    view.samples[0].update(image=red, weak_image=red)
    picture = training_picture(view, image_format=image_format)
    assert near(picture, "red").mean() > 0.5 and near(picture, "blue").sum() == 0


@pytest.mark.parametrize("size", [(20, 80), (80, 20), (300, 500), (1, 1)])
def test_views_of_any_size_fit(size):
    view = step_view(teacher_boxes())
    other = torch.zeros(3, *size, dtype=torch.uint8)
    view.samples[0]["image"] = other
    picture = training_picture(view)
    assert max(picture.shape) < 1600
