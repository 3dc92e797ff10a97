"""tools/show_augmentations.py: from a config and a dataset to one picture."""

import json
from functools import partial

import numpy as np
import pytest
import show_augmentations
from detectron2.data import DatasetCatalog
from PIL import Image
from show_augmentations import VIEWS, main
from training import CONFIGS

from soft_teacher.analysis.augmented_views import draw_views

YAML = str(CONFIGS / "soft_teacher.yaml")
LAZY = str(CONFIGS / "soft_teacher.py")
OWN_LIST = """
from detectron2.config import LazyCall as L
from soft_teacher.data.augmentation.spatial import RandomRotate, ShortEdgeScaleJitter

scale = L(ShortEdgeScaleJitter)(base=32, max_size=64)
dataloader = dict(
    train=dict(
        labeled_names=["digits_val"],
        labeled_augmentations=[scale],
        weak_augmentations=[scale],
        strong_augmentations=[scale, L(RandomRotate)(prob=1.0, {rotate})],
        image_format="RGB",
    )
)
train = dict(device="cpu")
"""


@pytest.fixture
def run(tiny_digits, tmp_path, capsys):
    """Runs the tool; returns its status and its last error line."""

    def run(config, *arguments, output="sheet.png"):
        arguments = ["--output", str(tmp_path / output), *arguments]
        status = main(["--config-file", str(config), *arguments])
        return status, (capsys.readouterr().err.splitlines() or [""])[-1]

    return run


@pytest.fixture
def sheet(run, monkeypatch):
    """Runs the tool; returns the rows that it would draw, without drawing them."""
    sheets = []

    def record(dicts, policies, path, *, num_draws, seed, class_names):
        draw = partial(draw_views, num_draws=num_draws, seed=seed)
        rows = {
            (v, n): draw(d, p, index=n) for v, p in policies.items() for n, d in enumerate(dicts)
        }
        sheets.append((rows, class_names))

    def draw(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(show_augmentations, "augmentation_sheet", record)
            assert run(*arguments)[0] == 0
        return sheets.pop()

    return draw


@pytest.fixture
def own_list(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN_LIST.format(rotate="angle=(5.0, 15.0)"))
    return path


ONE = ("--num-images", "1", "--num-draws", "1")
SMALL = {
    "yaml": [YAML, *ONE, "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE", "20"],
    "lazy": [LAZY, *ONE, *(f"dataloader.train.{v}_augmentations.short_edge=20" for v in VIEWS)],
}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        for one, other in zip(first[key], second[key], strict=True):
            assert one.text == other.text
            np.testing.assert_array_equal(one.image, other.image)


def test_one_png_is_written_into_a_new_folder(run, tmp_path):
    assert run(YAML, *ONE, output="new/sheet.png") == (0, "")
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        assert image.format == "PNG"
        # Four tiles of 2.2 inches at 110 dpi beside each other, one row for each variant.
        assert image.width == pytest.approx(4 * 242, abs=40)
        assert image.height == pytest.approx(2 * 280, abs=40)


def test_rows_are_images_times_variants_and_columns_original_and_draws(sheet):
    rows, class_names = sheet(YAML, "--num-images", "2", "--num-draws", "2")
    assert list(rows) == [("paper", 0), ("paper", 1), ("reference", 0), ("reference", 1)]
    titles = ["original", "labeled", "labeled", "weak", "strong", "weak", "strong"]
    assert all([view.title for view in row] == titles for row in rows.values())
    assert len(class_names) == 5
    assert list(sheet(YAML, *ONE, "--variant", "reference")[0]) == [("reference", 0)]


def test_boxes_are_those_of_the_first_labeled_dataset(sheet):
    rows, _ = sheet(YAML, *ONE)
    annotations = DatasetCatalog.get("digits_fold1_labeled")[0]["annotations"]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)]
    np.testing.assert_allclose(rows["paper", 0][0].boxes, boxes)
    assert rows["paper", 0][0].classes == [a["category_id"] for a in annotations]


def test_both_config_languages_draw_the_same(sheet):
    assert_same(sheet(YAML, *ONE)[0], sheet(LAZY, *ONE)[0])


@pytest.mark.parametrize("config", SMALL)
def test_overrides_reach_the_views(sheet, config):
    for row in sheet(*SMALL[config])[0].values():
        assert all(16 <= min(view.image.shape[:2]) <= 24 for view in row[1:])


def test_the_seed_reaches_the_views(sheet):
    first, again, other = (sheet(YAML, *ONE, "--seed", seed)[0] for seed in "223")
    assert_same(first, again)
    assert first["paper", 0][-1].text != other["paper", 0][-1].text


def test_a_lazy_config_that_lists_its_augmentations_has_one_set(sheet, own_list):
    rows, _ = sheet(own_list, "--num-images", "2", "--num-draws", "1")
    assert list(rows) == [("config", 0), ("config", 1)]
    assert any("rotate" in phrase for phrase in rows["config", 0][-1].text)


def test_another_dataset_by_name_by_path_and_without_annotations(sheet, tiny_digits):
    digits = tiny_digits / "digits"
    by_name, _ = sheet(YAML, *ONE, "--dataset", "digits_val")
    by_path, _ = sheet(YAML, *ONE, "--dataset", f"{digits}/annotations/val.json@{digits}/val")
    assert_same(by_name, by_path)
    bare, class_names = sheet(YAML, *ONE, "--dataset", str(digits / "val"))
    assert_same(by_name, bare)
    assert class_names == () and len(by_name["paper", 0][0].boxes)
    assert not any(len(view.boxes) for row in bare.values() for view in row)


MISTAKES = [
    (["nowhere.yaml"], "--config-file 'nowhere.yaml' does not exist"),
    ([YAML, "--num-images", "0"], "--num-images must be at least 1, got 0"),
    ([YAML, "--num-draws", "-1"], "--num-draws must be at least 1, got -1"),
    ([YAML, "--seed", "-1"], "--seed must not be negative, got -1"),
    ([YAML, "--dataset", "digits_vla"], "--dataset names 'digits_vla', which is neither"),
    ([YAML, "NO.SUCH_KEY", "1"], "unknown config key NO.SUCH_KEY"),
    ([YAML, "DATASETS.TRAIN_LABELED", "()"], "the config names no labeled dataset"),
    ([YAML, "SOFT_TEACHER.AUGMENTATION.SCALE_RANGE", "(2.0, 1.0)"], "SCALE_RANGE must be two"),
    ([LAZY, "dataloader.train.weak_augmentations.max_size=0"], "max_size must be at least 1"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_line_and_status_2(run, tmp_path, arguments, message):
    status, error = run(*arguments)
    assert status == 2 and not (tmp_path / "sheet.png").exists()
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize(
    "output, message",
    [
        ("sheet.jpg", "--output must end in .png"),
        ("file/sheet.png", "--output cannot be written: "),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused(run, tmp_path, output, message):
    (tmp_path / "file").write_text("not a folder")
    status, error = run(YAML, *ONE, output=output)
    assert status == 2 and message in error


def test_mistakes_in_a_list_of_augmentations(run, own_list):
    status, error = run(own_list, "--variant", "paper")
    assert status == 2 and "--variant: the config lists its own augmentations" in error
    own_list.write_text(OWN_LIST.format(rotate="angel=(5.0, 15.0)"))
    status, error = run(own_list)
    assert status == 2 and "angel" in error
    own_list.write_text("train = dict(device='cpu')")
    status, error = run(own_list)
    assert status == 2 and "has no dataloader.train.labeled_augmentations" in error


def test_an_unreadable_image_is_named(run, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    record = {"id": 1, "file_name": "cut.jpg", "height": 8, "width": 8}
    coco = {"images": [record], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "cut.json").write_text(json.dumps(coco))
    status, error = run(YAML, "--dataset", str(tmp_path / "cut.json"))
    assert status == 2 and "cut.jpg" in error
