"""Which images Fig. 4 shows, and what stands on it."""

import matplotlib.axes
import numpy as np
import pytest
from boxes import NAN, measured
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from soft_teacher.analysis.comparison import comparison_sheet, disagreement, most_different

HERE, THERE = [0, 0, 10, 10], [20, 20, 30, 30]


def boxes(*rows, objects=(0, 0)):
    """Of (box, class, score) or (box, class, score, hit)."""
    return measured(
        *((c, s, NAN, 0, *(hit or [False]), box) for box, c, s, *hit in rows), objects=objects
    )


NOTHING = boxes()
ONE = boxes((HERE, 0, 0.9))


@pytest.mark.parametrize(
    "one, other, count",
    [
        (NOTHING, NOTHING, 0),
        (ONE, NOTHING, 1),
        (ONE, ONE, 0),
        (ONE, boxes((HERE, 1, 0.9)), 2),
        (ONE, boxes((THERE, 0, 0.9)), 2),
        (ONE, boxes((HERE, 0, 0.6), (THERE, 0, 0.8)), 1),
        (ONE, boxes((HERE, 0, 0.6), (HERE, 0, 0.8)), 1),
    ],
)
def test_boxes_without_a_partner_are_counted(one, other, count):
    assert disagreement(one, other) == disagreement(other, one) == count


def test_the_most_different_images_come_first_and_equal_ones_not_at_all():
    two = boxes((HERE, 0, 0.9), (THERE, 1, 0.9))
    one = {0: ONE, 1: ONE, 2: two, 3: ONE, 5: ONE}
    other = {0: ONE, 1: NOTHING, 2: NOTHING, 4: ONE, 5: NOTHING}
    assert most_different(one, other, 9) == [2, 1, 5]
    assert most_different(one, other, 2) == [2, 1]
    assert most_different({}, {}, 9) == []


@pytest.fixture
def captions(monkeypatch):
    """Texts below the pictures, as they are drawn."""
    texts = []
    monkeypatch.setattr(
        matplotlib.axes.Axes, "set_xlabel", lambda axis, text, **options: texts.append(text)
    )
    return texts


def draw(networks, path):
    dicts, metadata = DatasetCatalog.get("digits_val"), MetadataCatalog.get("digits_val")
    return comparison_sheet(networks, dicts, metadata, str(path), score_thresh=0.5)


def test_networks_that_agree_are_not_drawn(tiny_digits, tmp_path):
    path = tmp_path / "figure4.png"
    faint = boxes((HERE, 0, 0.5))
    assert not draw({"supervised": {0: ONE, 1: faint}, "ours": {0: ONE, 1: NOTHING}}, path)
    assert not path.exists()


def test_each_row_has_both_networks_and_the_truth(tiny_digits, tmp_path, captions):
    path = tmp_path / "figure4.png"
    found = boxes((HERE, 0, 0.9, True), (THERE, 1, 0.8), (THERE, 2, 0.7, None), (HERE, 3, 0.2))
    assert draw({"supervised": {1: NOTHING, 2: ONE}, "ours": {1: found, 2: NOTHING}}, path)
    number = [len(d["annotations"]) for d in DatasetCatalog.get("digits_val")]
    assert captions == [
        f"0 right, 0 wrong, {number[1]} missed",
        f"1 right, 1 wrong, {number[1] - 1} missed",
        f"{number[1]} objects",
        f"0 right, 1 wrong, {number[2]} missed",
        f"0 right, 0 wrong, {number[2]} missed",
        f"{number[2]} objects",
    ]
    assert np.asarray(Image.open(path)).std() > 10
