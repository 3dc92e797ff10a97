"""soft-teacher-augmentations: from a config and a dataset to one picture."""

from functools import partial

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image
from training import CONFIGS

from soft_teacher.analysis.augmented_views import draw_views
from soft_teacher.commands import augmentations
from soft_teacher.commands.augmentations import VIEWS, main

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
        strong_augmentations=[scale, L(RandomRotate)(prob=1.0, angle=(5.0, 15.0))],
        image_format="RGB",
    )
)
train = dict(device="cpu")
"""
PASTE = "{_target_: soft_teacher.data.augmentation.instance_paste.InstancePaste, prob: 1.0}"
ONE = ("--num-images", "1", "--num-draws", "1")


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
    """Runs the tool; returns the rows that it would draw, without drawing them.

    ``class_names`` are those of the last call.
    """

    def show(*arguments):
        sheets = []

        def record(dicts, policies, path, *, num_draws, seed, class_names):
            draw = partial(draw_views, num_draws=num_draws, seed=seed)
            items = [(v, p, n) for v, p in policies.items() for n in range(len(dicts))]
            sheets.append({(v, n): draw(dicts[n], p, index=n) for v, p, n in items})
            show.class_names = class_names

        with monkeypatch.context() as patch:
            patch.setattr(augmentations, "augmentation_sheet", record)
            assert run(*arguments) == (0, "")
        return sheets.pop()

    return show


@pytest.fixture
def own_list(tmp_path):
    def write(text=OWN_LIST):
        (tmp_path / "own.py").write_text(text)
        return tmp_path / "own.py"

    return write


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


def test_rows_are_images_times_variants_and_columns_original_and_samples(sheet):
    rows = sheet(YAML, "--num-images", "2", "--num-draws", "2")
    assert list(rows) == [("paper", 0), ("paper", 1), ("reference", 0), ("reference", 1)]
    titles = ["original", "labeled", "labeled", "weak", "strong", "weak", "strong"]
    assert all([view.title for view in row] == titles for row in rows.values())
    annotations = DatasetCatalog.get("digits_fold1_labeled")[0]["annotations"]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations)]
    np.testing.assert_allclose(rows["paper", 0][0].boxes, boxes)
    assert rows["paper", 0][0].classes == [a["category_id"] for a in annotations]
    assert len(sheet.class_names) == 5


def test_variant_and_seed_and_both_config_languages(sheet):
    first, again, lazy = sheet(YAML, *ONE), sheet(YAML, *ONE, "--seed", "0"), sheet(LAZY, *ONE)
    other = sheet(YAML, *ONE, "--seed", "3", "--variant", "reference")
    assert_same(first, again)
    assert_same(first, lazy)
    assert list(other) == [("reference", 0)]
    assert other["reference", 0][-1].text != first["reference", 0][-1].text


@pytest.mark.parametrize(
    "overrides",
    [
        [YAML, *ONE, "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE", "20"],
        [LAZY, *ONE, *(f"dataloader.train.{view}.short_edge=20" for view in VIEWS)],
    ],
    ids=["yaml", "lazy"],
)
def test_overrides_reach_the_views(sheet, overrides):
    for row in sheet(*overrides).values():
        assert all(16 <= min(view.image.shape[:2]) <= 24 for view in row[1:])


@pytest.mark.parametrize(
    "overrides",
    [
        ["mask_soft_teacher.yaml", "SOFT_TEACHER.AUGMENTATION.INSTANCE_PASTE", "1.0"],
        ["mask_soft_teacher.py", f"dataloader.train.instance_paste={PASTE}"],
    ],
    ids=["yaml", "lazy"],
)
def test_objects_that_training_moves_are_moved(sheet, overrides):
    config, *overrides = overrides
    for row in sheet(CONFIGS / config, *ONE, *overrides).values():
        moved = [view.title for view in row if "moved objects" in view.text]
        assert moved == ["labeled"]


def test_a_lazy_config_that_lists_its_augmentations_has_one_set(sheet, own_list):
    rows = sheet(own_list(), "--num-images", "2", "--num-draws", "1")
    assert list(rows) == [("config", 0), ("config", 1)]
    assert any("rotate" in phrase for phrase in rows["config", 0][-1].text)


def test_another_dataset_by_name_by_path_and_without_annotations(sheet, tiny_digits):
    digits = tiny_digits / "digits"
    by_name = sheet(YAML, *ONE, "--dataset", "digits_val")
    assert_same(
        by_name, sheet(YAML, *ONE, "--dataset", f"{digits}/annotations/val.json@{digits}/val")
    )
    bare = sheet(YAML, *ONE, "--dataset", str(digits / "val"))
    assert_same(by_name, bare)
    assert sheet.class_names == ()
    assert len(by_name["paper", 0][0].boxes)
    assert not any(len(view.boxes) for row in bare.values() for view in row)


MISTAKES = [
    (["nowhere.yaml"], "--config-file 'nowhere.yaml' does not exist"),
    ([YAML, "--num-images", "0"], "--num-images must be a whole number of at least 1, got 0"),
    ([YAML, "--num-draws", "-1"], "--num-draws must be a whole number of at least 1, got -1"),
    ([YAML, "--seed", "-1"], "--seed must not be negative, got -1"),
    ([YAML, "--output", "sheet.jpg"], "--output must end in .png"),
    ([YAML, "--output", f"{YAML}/sheet.png"], "--output cannot be written: "),
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


def test_mistakes_in_a_list_of_augmentations(run, own_list):
    assert "--variant: the config lists its own" in run(own_list(), "--variant", "paper")[1]
    assert "angel" in run(own_list(OWN_LIST.replace("angle", "angel")))[1]
    bare = own_list("train = dict(device='cpu')")
    assert "has no dataloader.train.labeled_augmentations" in run(bare)[1]
