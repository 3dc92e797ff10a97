"""The embedded digits dataset: its spec, its images, its files and its registration."""

import json
import sys

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.structures import Boxes, pairwise_iou
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from soft_teacher.demo import digits, sources
from soft_teacher.demo.digits import DigitsSpec, generate, main, register_digits
from soft_teacher.demo.scene import SPLITS, render_scene
from soft_teacher.demo.sources import (
    PHOTOS,
    digits_by_class,
    load_digit_samples,
    load_photo,
    photo_region,
)
from soft_teacher.utils.errors import BrokenPackage, ConfigError

SPEC = DigitsSpec(num_train=12, num_unlabeled=10, num_val=8)


PREFIX = "digits_test"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    return root, generate(root, SPEC)


def load(path):
    return json.loads(path.read_text())


def contents(root):
    return {
        p.relative_to(root): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.suffix != ".lock"
    }


def scenes(spec, split="train", count=20):
    return [render_scene(spec, split, i) for i in range(count)]


# --- the spec -----------------------------------------------------------------------------------


WRONG = {
    "num_classes": (0, 11, 2.5, True),
    "image_size": (16,),
    "min_objects": (-1,),
    "max_objects": (0, 20),
    "digit_size": ((4, 20), (30, 20), (16, 127), 16),
    "contrast": (0.0, 1.5, float("nan"), "high"),
    "clutter": (-1,),
    "num_train": (0,),
    "num_unlabeled": (-1,),
    "num_val": (0,),
    "seed": (-1,),
}


@pytest.mark.parametrize("field, value", [(k, v) for k, values in WRONG.items() for v in values])
def test_a_wrong_field_is_named_in_one_line(field, value):
    with pytest.raises(ConfigError, match=rf"DigitsSpec\.{field}\b.*\d") as error:
        DigitsSpec(**{field: value})
    assert "\n" not in str(error.value)


def test_more_digits_at_least_than_at_most_are_refused():
    with pytest.raises(ConfigError, match=r"max_objects must be at least min_objects \(7\), got 6"):
        DigitsSpec(min_objects=7)


def test_spec_survives_json():
    numbers = DigitsSpec(num_train=np.int64(3), contrast=1, digit_size=np.array([12, 20]).tolist())
    for spec in (SPEC, numbers):
        assert DigitsSpec(**json.loads(json.dumps(spec.to_dict()))) == spec


# --- the sources --------------------------------------------------------------------------------


def test_both_sides_have_every_digit_and_share_none():
    _, labels = load_digit_samples()
    rest, val = digits_by_class(False), digits_by_class(True)
    for digit in range(10):
        assert set(labels[rest[digit]]) == set(labels[val[digit]]) == {digit}
        assert len(val[digit]) >= 40
    used = np.concatenate([*rest, *val])
    assert len(used) == len(set(used)) == len(labels)


@pytest.mark.parametrize("name", PHOTOS)
def test_photo_regions_of_the_two_sides_tile_the_photo(name):
    height, width = load_photo(name).shape[:2]
    cover = np.zeros((height, width), int)
    for val in (False, True):
        x, y, w, h = photo_region(name, val)
        cover[y : y + h, x : x + w] += 1
    assert (cover == 1).all()


# --- one image ----------------------------------------------------------------------------------


def test_an_image_depends_only_on_seed_split_and_index():
    last = render_scene(SPEC, "train", 7)
    larger = DigitsSpec(num_train=5000, num_val=3)
    assert np.array_equal(last.image, render_scene(larger, "train", 7).image)
    others = [(SPEC, "train", 8), (SPEC, "val", 7), (SPEC, "unlabeled", 7)]
    for other in (*others, (DigitsSpec(seed=1), "train", 7)):
        assert not np.array_equal(last.image, render_scene(*other).image)


def test_boxes_lie_inside_and_touch_visible_pixels_on_all_four_sides():
    for scene in scenes(SPEC, count=40):
        for digit in scene.digits:
            x, y, w, h = digit.box
            assert x >= 0 and y >= 0 and x + w <= SPEC.image_size and y + h <= SPEC.image_size
            shown = digit.alpha >= 0.5
            inside = shown[y : y + h, x : x + w]
            assert inside.sum() == shown.sum()
            assert inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()


def test_boxes_are_tight_on_what_changed_in_the_image():
    spec = DigitsSpec(contrast=0.6, min_objects=1, max_objects=1, clutter=0)
    for scene in scenes(spec):
        (digit,) = scene.digits
        change = np.abs(scene.image.astype(int) - scene.background).max(2)
        x, y, w, h = digit.box
        outside = np.ones_like(change, bool)
        outside[max(y - 6, 0) : y + h + 6, max(x - 6, 0) : x + w + 6] = False
        assert not change[outside].any()
        assert change[y : y + h, x : x + w].mean() > 10 * change[outside].mean()
        rows, columns = np.nonzero(change > 0.6 * change.max())
        found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(np.subtract(found, (x, y, x + w, y + h))).max() <= 0.15 * max(w, h) + 2


def test_a_mask_is_what_shows_of_a_digit_and_no_two_share_a_pixel_that_is_surely_one_s():
    for scene in scenes(DigitsSpec(min_objects=8, max_objects=10, digit_size=(12, 40))):
        for digit in scene.digits:
            np.testing.assert_array_equal(digit.mask, digit.alpha >= 0.5)
        surely = np.sum([d.mask & (d.alpha > 0.5) for d in scene.digits], axis=0)
        assert surely.max() == 1


def test_digits_hardly_overlap_and_a_covered_pixel_belongs_to_the_one_on_top():
    for scene in scenes(DigitsSpec(min_objects=8, max_objects=10, digit_size=(12, 40))):
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (d.box for d in scene.digits)]
        iou = pairwise_iou(*[Boxes(torch.tensor(boxes))] * 2)
        assert (iou - torch.eye(len(boxes))).max() < 0.1
        shares = np.sum([d.alpha for d in scene.digits], axis=0)
        assert shares.min() >= 0 and shares.max() <= 1 + 1e-5


def test_number_of_digits_and_classes_follow_the_spec():
    spec = DigitsSpec(num_classes=3, min_objects=2, max_objects=4, digit_size=(12, 24))
    found = scenes(spec, count=60)
    assert {len(s.digits) for s in found} == {2, 3, 4}
    assert {d.label for s in found for d in s.digits} == {0, 1, 2}
    _, labels = load_digit_samples()
    assert all(labels[d.sample] == d.label for s in found for d in s.digits)


def test_sizes_follow_the_spec():
    small = DigitsSpec(digit_size=(12, 14))
    heights = [d.box[3] for s in scenes(small) for d in s.digits]
    assert 8 <= min(heights) and max(heights) <= 18
    wide = [d.box[3] for s in scenes(DigitsSpec(), count=60) for d in s.digits]
    assert min(wide) < 20 and max(wide) > 48


def colour_change(spec):
    changes = []
    for scene in scenes(spec, count=30):
        for digit in scene.digits:
            shown = digit.alpha > 0.9
            gap = scene.image[shown].mean(0) - scene.background[shown].mean(0)
            changes.append(np.sqrt((gap**2).mean()) / 255)
    return np.mean(changes)


def test_contrast_sets_the_colour_distance():
    low, high = (colour_change(DigitsSpec(contrast=c, clutter=0)) for c in (0.1, 0.4))
    assert 0.06 < low < 0.12
    assert 0.26 < high < 0.44


def test_clutter_sets_the_number_of_distractors():
    assert all(not s.distractors for s in scenes(DigitsSpec(clutter=0)))
    found = scenes(DigitsSpec(clutter=5), count=60)
    assert {len(s.distractors) for s in found} == set(range(6))
    assert {d["kind"] for s in found for d in s.distractors} == {"patch", "stroke", "piece"}


def test_digits_among_the_distractors_are_never_objects():
    _, labels = load_digit_samples()
    found = [d for s in scenes(DigitsSpec(clutter=8), count=40) for d in s.distractors]
    pieces = [d["digit"] for d in found if d["kind"] == "piece"]
    assert pieces and labels[pieces].min() >= 5
    every_digit = DigitsSpec(num_classes=10, clutter=8)
    assert all(d["kind"] != "piece" for s in scenes(every_digit) for d in s.distractors)


def test_smallest_images_can_be_drawn():
    spec = DigitsSpec(image_size=32, max_objects=1, digit_size=(8, 22))
    assert all(s.image.shape == (32, 32, 3) for s in scenes(spec, count=60))


# --- the dataset --------------------------------------------------------------------------------


def test_same_spec_gives_the_same_bytes(dataset, tmp_path):
    generate(tmp_path, SPEC)
    assert contents(tmp_path) == contents(dataset[0])


def test_annotations_and_files_agree_with_the_scenes(dataset):
    root, files = dataset
    for split, count in zip(SPLITS, (SPEC.num_train, SPEC.num_unlabeled, SPEC.num_val)):
        truth = load(files["unlabeled_gt" if split == "unlabeled" else split])
        assert len(truth["images"]) == len(list((root / split).iterdir())) == count
        for index, image in enumerate(truth["images"]):
            scene = render_scene(SPEC, split, index)
            boxes = [a["bbox"] for a in truth["annotations"] if a["image_id"] == image["id"]]
            assert boxes == [list(map(float, d.box)) for d in scene.digits]
            masks = [
                a["segmentation"] for a in truth["annotations"] if a["image_id"] == image["id"]
            ]
            assert all(isinstance(mask["counts"], str) for mask in masks)
            for mask, digit in zip(masks, scene.digits, strict=True):
                np.testing.assert_array_equal(mask_util.decode(mask), digit.alpha >= 0.5)
                assert tuple(mask_util.toBbox(mask)) == digit.box
            with Image.open(root / split / image["file_name"]) as file:
                assert file.size == (image["width"], image["height"])
                error = np.abs(np.asarray(file, int) - scene.image)
            assert error.mean() < 4  # JPEG


def provenance(truth):
    """The digit samples and the (photo, x, y, w, h) rectangles that a JSON claims to use."""
    distractors = [d for i in truth["images"] for d in i["distractors"]]
    samples = {a["digit"] for a in truth["annotations"]}
    samples |= {d["digit"] for d in distractors if "digit" in d}
    crops = {(p["photo"], *p["crop"]) for p in truth["images"] + distractors if "photo" in p}
    return samples, crops


def test_validation_shares_no_digit_and_no_photo_region(tmp_path):
    files = generate(tmp_path, DigitsSpec(num_train=60, num_unlabeled=60, num_val=60))
    val_samples, val_crops = provenance(load(files["val"]))
    assert len(val_samples) > 50 and len({c[0] for c in val_crops}) > 8
    for name in ("train", "unlabeled_gt"):
        samples, crops = provenance(load(files[name]))
        assert not samples & val_samples
        for photo, x, y, w, h in crops:
            for other, a, b, c, d in val_crops:
                apart = x + w <= a or a + c <= x or y + h <= b or b + d <= y
                assert photo != other or apart


def test_claimed_crops_are_what_the_image_shows(dataset):
    """With the claimed crop undone, the picture matches its photograph up to tint and paste."""
    spec = DigitsSpec(min_objects=0, max_objects=1, clutter=0)
    for scene in scenes(spec, "val"):
        x, y, w, h = scene.photo["crop"]
        crop = Image.fromarray(load_photo(scene.photo["photo"])[y : y + h, x : x + w])
        expected = np.asarray(crop.resize((128, 128), Image.BICUBIC), float)
        shown = scene.background[:, ::-1] if scene.photo["flip"] else scene.background
        if min(expected.std(), shown.std()) > 5:
            assert np.corrcoef(expected.mean(2).ravel(), shown.mean(2).ravel())[0, 1] > 0.9


def test_unlabeled_images_have_their_ground_truth_elsewhere_and_all_ids_are_unique(dataset):
    _, files = dataset
    unlabeled, truth = load(files["unlabeled"]), load(files["unlabeled_gt"])
    assert unlabeled["annotations"] == [] and truth["annotations"]
    assert unlabeled["images"] == truth["images"]
    assert unlabeled["categories"] == truth["categories"]
    ids = [image["id"] for split in SPLITS for image in load(files[split])["images"]]
    assert len(set(ids)) == len(ids)


def test_pycocotools_and_detectron2_read_every_file(dataset):
    root, files = dataset
    for name, path in files.items():
        coco = COCO(str(path))
        assert sorted(coco.getCatIds()) == [1, 2, 3, 4, 5]
        assert all(a["area"] == a["bbox"][2] * a["bbox"][3] > 0 for a in coco.anns.values())
        assert all(isinstance(v, float) for a in coco.anns.values() for v in a["bbox"])
        dicts = load_coco_json(str(path), str(root / name.removesuffix("_gt")))
        assert len(dicts) == len(coco.imgs)
        assert sum(len(d["annotations"]) for d in dicts) == len(coco.anns)


# --- reuse --------------------------------------------------------------------------------------

TINY = DigitsSpec(num_train=3, num_unlabeled=2, num_val=2)


def generated(root, spec=TINY):
    """How many images a call had to draw."""
    calls = []
    generate(root, spec, progress=lambda *call: calls.append(call))
    assert calls == [(n + 1, len(calls)) for n in range(len(calls))]
    return len(calls)


def test_same_spec_is_reused_and_another_replaces_it(tmp_path):
    assert generated(tmp_path) == 7
    assert generated(tmp_path) == 0
    other = DigitsSpec(num_train=1, num_unlabeled=0, num_val=1)
    assert generated(tmp_path, other) == 2
    assert len(list((tmp_path / "train").iterdir())) == 1
    assert load(tmp_path / "annotations" / "unlabeled.json")["images"] == []
    assert generated(tmp_path) == 7


def test_damaged_files_are_noticed(tmp_path):
    generated(tmp_path)
    whole = contents(tmp_path)
    (tmp_path / "val" / "000001.jpg").unlink()
    assert generated(tmp_path) == 7
    path = tmp_path / "annotations" / "train.json"
    path.write_text(path.read_text()[:-20])
    assert generated(tmp_path) == 7
    assert contents(tmp_path) == whole


def test_a_dataset_without_masks_is_noticed_and_made_again(tmp_path):
    generated(tmp_path)
    whole = contents(tmp_path)
    record = load(tmp_path / "spec.json")
    (tmp_path / "spec.json").write_text(json.dumps({**record, "format": 1}))
    with pytest.raises(ConfigError, match="no complete digits dataset with masks in"):
        register_digits(tmp_path, PREFIX)
    assert generated(tmp_path) == 7
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("images", [1, 7])
def test_interrupted_generation_is_not_taken_for_a_finished_one(tmp_path, images):
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path, TINY, progress=lambda done, total: 1 / (images - done))
    with pytest.raises(ConfigError, match="no complete digits dataset"):
        register_digits(tmp_path, PREFIX)
    assert generated(tmp_path) == 7
    assert not list(tmp_path.glob(".partial*"))


def test_interrupted_swap_is_not_taken_for_a_finished_one(tmp_path, monkeypatch):
    generated(tmp_path)
    other = DigitsSpec(num_train=2, num_unlabeled=2, num_val=2)
    with monkeypatch.context() as patch:
        patch.setattr(digits, "_checksum", lambda root: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate(tmp_path, other)
    assert generated(tmp_path) == 7


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="use an empty folder"):
        generate(tmp_path, TINY)
    assert (tmp_path / "train" / "mine.txt").read_text() == "keep"


# --- registration -------------------------------------------------------------------------------


def test_registration_is_lazy_complete_and_repeatable(dataset):
    root, files = dataset
    for _ in range(2):
        names = register_digits(root, PREFIX)
    assert names == [f"{PREFIX}_{n}" for n in ("train", "unlabeled", "unlabeled_gt", "val")]
    for name in names:
        meta = MetadataCatalog.get(name)
        assert meta.thing_classes == ["zero", "one", "two", "three", "four"]
        assert meta.evaluator_type == "coco" and meta.json_file in map(str, files.values())
    labels = {a["category_id"] for d in DatasetCatalog.get(names[0]) for a in d["annotations"]}
    assert labels <= set(range(5))
    assert not any(d["annotations"] for d in DatasetCatalog.get(names[1]))
    assert any(d["annotations"] for d in DatasetCatalog.get(names[2]))
    for record in DatasetCatalog.get(names[2]):
        Image.open(record["file_name"]).close()


def test_registration_follows_a_regenerated_folder(tmp_path):
    for classes in (2, 4):
        generate(tmp_path, DigitsSpec(num_classes=classes, num_train=2, num_unlabeled=0, num_val=1))
        name = register_digits(tmp_path, PREFIX)[0]
        assert len(MetadataCatalog.get(name).thing_classes) == classes
        DatasetCatalog.get(name)


def test_registration_refuses_a_missing_dataset_and_a_taken_name(dataset, tmp_path):
    with pytest.raises(ConfigError, match="run python -m soft_teacher.demo"):
        register_digits(tmp_path / "nothing", PREFIX)
    assert not (tmp_path / "nothing").exists()
    register_digits(dataset[0], PREFIX)
    generate(tmp_path, TINY)
    with pytest.raises(ConfigError, match="use another prefix"):
        register_digits(tmp_path, PREFIX)


def test_the_command_takes_every_field_and_reports_a_mistake_in_one_line(tmp_path, capsys):
    sizes = ["--num-train", "2", "--num-unlabeled", "1", "--num-val", "1"]
    assert main([str(tmp_path), *sizes, "--contrast", "0.5", "--digit-size", "12", "20"]) == 0
    assert "train.json" in capsys.readouterr().out
    spec = load(tmp_path / "spec.json")["spec"]
    assert spec["contrast"] == 0.5 and spec["digit_size"] == [12, 20]
    assert main([str(tmp_path), "--contrast", "7"]) == 2
    assert capsys.readouterr().err.startswith("error: DigitsSpec.contrast must be a number above 0")


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BrokenPackage, match=r"sklearn cannot .* install it with pip .*\[demo\]$"):
        load_digit_samples.__wrapped__()
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BrokenPackage, match=r"the digits need scikit-image: pip .*\[demo\]$"):
        load_photo.__wrapped__("moon.png")
