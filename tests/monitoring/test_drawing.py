"""Outlines and labels of boxes, on images of every kind."""

import numpy as np
import pytest
import torch

from soft_teacher.monitoring.drawing import (
    DPI,
    Style,
    class_color,
    class_namer,
    draw_label,
    draw_mask,
    draw_outline,
    legend_handle,
    new_figure,
    picture_of,
    rgb_image,
    show_image,
)
from soft_teacher.monitoring.training_pictures import STYLES
from soft_teacher.monitoring.validation_pictures import DETECTED, TRUE

# --- contrast, as the Web Content Accessibility Guidelines define it


def luminance(rgb):
    """Relative luminance of colours in [0, 255]; the last axis is the channel."""
    share = np.asarray(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """Of two luminances: from 1 to 21; the guidelines ask for 3 in graphics."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize(
    "rgb, expected",
    [((0, 0, 0), 0), ((255, 255, 255), 1), ((0, 255, 0), 0.7152), ((188, 188, 188), 0.5029)],
)
def test_luminance_of_known_colours(rgb, expected):
    assert luminance(rgb) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("one, other, expected", [(0.3, 0.3, 1), (0, 1, 21), (0.4, 0.1, 3)])
def test_contrast_of_known_luminances(one, other, expected):
    assert contrast(one, other) == pytest.approx(expected)


# --- outlines

SIDE = 200
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
BACKGROUNDS = {
    "white": np.full_like(NOISE, 255),
    "light": np.full_like(NOISE, 190),
    "medium": np.full_like(NOISE, 110),
    "dark": np.full_like(NOISE, 50),
    "black": np.zeros_like(NOISE),
    "noise": NOISE,
}
ALL_STYLES = {**STYLES, "ground truth": TRUE, "detected": DETECTED}


def shown(image, style=None):
    """An image of two inches, one pixel each, with a box in its middle."""
    figure = new_figure(SIDE / DPI, SIDE / DPI)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    show_image(axis, image, "")
    if style:
        draw_outline(axis, [60, 40, 140, 160], style)
    return picture_of(figure)


def greatest_contrast(picture):
    """Between the mean luminances of any two columns near the left side of the box."""
    columns = luminance(picture[50:150, 52:68]).mean(axis=0)
    return contrast(columns.min(), columns.max())


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_without_a_box_there_is_no_contrast(background):
    assert greatest_contrast(shown(BACKGROUNDS[background])) < 1.5


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("style", ALL_STYLES)
def test_every_outline_is_visible_on_every_background(style, background):
    assert greatest_contrast(shown(BACKGROUNDS[background], ALL_STYLES[style])) > 3


def test_a_box_of_two_kinds_shows_both_lines():
    figure = new_figure(2, 2)
    axis = figure.subplots()
    show_image(axis, BACKGROUNDS["black"], "")
    # The rim of the second line is wider than the first line.
    for style in (Style("#ff0000", 3), Style("#00ff00", 1.5, "--")):
        draw_outline(axis, [60, 40, 140, 160], style)
    picture = picture_of(figure).astype(int)
    for color in ([255, 0, 0], [0, 255, 0]):
        assert (np.abs(picture - color).max(axis=2) < 60).sum() > 50


def test_the_legend_shows_the_line_over_its_rim():
    rim, line = legend_handle(STYLES["dropped"])
    assert rim.get_linewidth() > line.get_linewidth()
    assert line.get_color() == STYLES["dropped"].color


# --- masks

SQUARE = np.array([60, 40, 140, 40, 140, 160, 60, 160])
HOLE = np.array([80, 60, 80, 120, 120, 120, 120, 60])


def masked(polygons, background="black"):
    figure = new_figure(SIDE / DPI, SIDE / DPI)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    show_image(axis, BACKGROUNDS[background], "")
    draw_mask(axis, polygons, "#00ff00")
    return picture_of(figure).astype(int)


def test_a_mask_without_polygons_draws_nothing():
    assert (masked([]) == BACKGROUNDS["black"]).all()


def test_a_mask_is_translucent_inside_its_outline_and_has_holes():
    picture = masked([SQUARE, HOLE])
    assert 40 < picture[150, 100, 1] < 200 and picture[150, 100, 0] == 0
    assert picture[100, 60].tolist() == [0, 255, 0]  # the outline
    assert picture[90, 100].tolist() == picture[20, 20].tolist() == [0, 0, 0]


def test_what_is_below_a_mask_stays_visible():
    covered = luminance(masked([SQUARE], "noise")[50:150, 70:130])
    assert np.std(covered) > 0.3 * np.std(luminance(NOISE[50:150, 70:130]))


def test_boxes_are_drawn_over_masks():
    axis = new_figure(2, 2).subplots()
    draw_outline(axis, [60, 40, 140, 160], Style("#ff0000", 3))
    draw_mask(axis, [SQUARE], "#00ff00")
    *box, mask = (patch.get_zorder() for patch in axis.patches)
    assert mask < min(box)


def test_ten_classes_have_colours_of_their_own():
    colors = [class_color(number) for number in range(10)]
    assert len(set(colors)) == 10 and class_color(13) == colors[3]


# --- images and words


def test_a_class_without_a_name_goes_by_its_number():
    assert [class_namer([])(0), class_namer(["cat"])(0), class_namer(["cat"])(1)] == [
        "0", "cat", "1",
    ]  # fmt: skip


def test_channels_become_rgb():
    image = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1)
    assert rgb_image(image, "RGB").tolist() == [[[0, 1, 2]]]
    assert rgb_image(image, "BGR").tolist() == [[[2, 1, 0]]]


@pytest.mark.parametrize("size, expected", [(None, (50, 80)), ((100, 160), (100, 160))])
def test_the_frame_is_that_of_the_boxes(size, expected):
    axis = new_figure(1, 1).subplots()
    show_image(axis, np.zeros((50, 80, 3), np.uint8), "", size)
    assert (axis.get_ylim()[0], axis.get_xlim()[1]) == expected


@pytest.mark.parametrize(
    "box, below, y, side",
    [
        ([9, 50, 99, 90], False, 50, "bottom"),
        ([9, 50, 99, 90], True, 90, "top"),
        ([9, 2, 99, 90], False, 2, "top"),
        ([9, -5, 99, 90], False, 0, "top"),
        ([9, 50, 99, 199], True, 199, "bottom"),
        ([9, 50, 99, 205], True, 200, "bottom"),
    ],
)
def test_labels_are_outside_the_box_but_inside_the_image(box, below, y, side):
    axis = new_figure(2, 2).subplots()
    show_image(axis, NOISE, "")
    draw_label(axis, box, "cat", "#ffffff", below=below)
    assert (axis.texts[0].get_position(), axis.texts[0].get_va()) == ((9, y), side)


def test_a_name_with_dollars_is_no_formula():
    figure = new_figure(2, 2)
    axis = figure.subplots()
    show_image(axis, NOISE, "$\\a$.jpg")
    draw_label(axis, [60, 40, 140, 160], "$\\no formula$ 0.9", "#ffffff")
    picture_of(figure)
