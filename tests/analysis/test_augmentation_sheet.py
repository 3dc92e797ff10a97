"""The sheet: a grid of the views with their boxes and their small print."""

import numpy as np
import pytest
from detectron2.structures import BoxMode
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from soft_teacher.analysis.augmentation_sheet import augmentation_sheet
from soft_teacher.analysis.augmented_views import Policies
from soft_teacher.data.augmentation.photometric import SolarizeTransform
from soft_teacher.data.augmentation.transforms import AffineTransform, FlipTransform

H, W = 40, 60
DOWN = AffineTransform([[1, 0, 0], [0, 1, 4]], H, W)
PAPER = Policies([SolarizeTransform(143)], [FlipTransform(W)], [DOWN], "BGR")
PLAIN = Policies([], [], [], "BGR")


@pytest.fixture
def dicts(tmp_path):
    found = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((H, W, 3), 100, np.uint8)).save(path)
        box = dict(bbox=[10, 20, 30, 35], bbox_mode=BoxMode.XYXY_ABS, category_id=number)
        found.append({"file_name": str(path), "height": H, "width": W, "annotations": [box]})
    return found


@pytest.fixture
def sheet(monkeypatch):
    """Draws a sheet and returns its rows of axes."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))

    def draw(*args, columns, **kwargs):
        augmentation_sheet(*args, "sheet.png", **kwargs)
        axes = figures.pop().axes
        return [axes[n : n + columns] for n in range(0, len(axes), columns)]

    return draw


def patches(axis, kind):
    return [patch for patch in axis.patches if isinstance(patch, kind)]


def test_images_without_annotations_have_no_boxes(sheet, dicts):
    bare = [{k: v for k, v in d.items() if k != "annotations"} for d in dicts]
    for axis in sum(sheet(bare, {"paper": PAPER}, columns=4), []):
        assert len(axis.images) == 1 and not axis.patches and not axis.texts


def test_a_row_per_image_and_policies_and_a_column_per_view(sheet, dicts):
    rows = sheet(dicts, {"paper": PAPER, "plain": PLAIN}, num_draws=2, columns=7)
    labels = [row[0].get_ylabel() for row in rows]
    assert labels == ["paper: 0.png", "paper: 1.png", "plain: 0.png", "plain: 1.png"]
    titles = ["original", "labeled", "labeled", "weak", "strong", "weak", "strong"]
    assert all([axis.get_title() for axis in row] == titles for row in rows)


def test_operations_are_listed_below_each_view(sheet, dicts):
    many = Policies([SolarizeTransform(143)] * 5, [], [], "BGR")
    rows = sheet(dicts[:1], {"paper": PAPER, "plain": PLAIN, "many": many}, columns=4)
    paper, plain, many = (
        [axis.get_xlabel().replace("\N{NO-BREAK SPACE}", " ") for axis in row] for row in rows
    )
    assert paper == ["60x40", "solarize at 143", "flip", "translate y +10.0%"]
    assert plain == ["60x40", "nothing", "nothing", "nothing"]
    lines = many[1].split("\n")
    assert len(lines) == 3 and all(line.startswith("solarize at 143") for line in lines)


def test_boxes_are_in_pixel_coordinates_with_name_and_colour_of_their_class(sheet, dicts):
    rows = sheet(dicts, {"paper": PAPER}, class_names=["cat"], columns=4)
    colors = []
    for row, name in zip(rows, ["cat", "1"]):
        # original, labeled, weak (mirrored), strong (moved down by four pixels)
        corners = [(10, 20, 20, 15), (10, 20, 20, 15), (30, 20, 20, 15), (10, 24, 20, 15)]
        for axis, box in zip(row, corners):
            assert axis.images[0].get_extent() == [0, W, H, 0]
            (patch,) = (patch for patch in axis.patches if isinstance(patch, Rectangle))
            assert patch.get_bbox().bounds == pytest.approx(box, abs=1e-4)
            assert [text.get_text() for text in axis.texts] == [name]
            colors.append(patch.get_edgecolor())
        outlines = [sum(isinstance(p, Polygon) for p in axis.patches) for axis in row]
        assert outlines == [0, 0, 0, 1]
    assert all(same_color(color, colors[0]) for color in colors[:4])
    assert not same_color(colors[0], colors[4])
