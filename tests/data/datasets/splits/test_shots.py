import random

import numpy as np
import pytest

from soft_teacher.data.datasets.splits.manifest import read_manifest, write_manifest
from soft_teacher.data.datasets.splits.shots import (
    Shown,
    labeled_images,
    scarce_classes,
    shots_split,
    shown_in,
)
from soft_teacher.utils.errors import ConfigError

# Class 1 is in a third of the images, class 2 in a ninth, class 3 in two.
MANY = {i: {c for c, n in ((1, 3), (2, 9), (3, 40)) if i % n == 0} for i in range(80)}
CLASSES = {1: "cat", 2: "dog", 3: "fox"}


# --- which images are taken ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "images, order, shots, labeled",
    [
        ({}, [], 3, set()),
        ({1: set(), 2: set()}, [2, 1], 3, set()),
        ({1: {7}}, [1], 0, set()),
        ({1: {7}, 2: {7}, 3: {7}}, [3, 1, 2], 1, {3}),
        ({1: {7}, 2: {7}, 3: {7}}, [3, 1, 2], 2, {3, 1}),
        ({1: {7}, 2: {7}, 3: {7}, 4: set()}, [3, 4, 1, 2], 9, {3, 1, 2}),
    ],
)
def test_the_first_images_of_the_order_that_show_the_class(images, order, shots, labeled):
    assert labeled_images(images, order, shots) == labeled


def test_an_image_counts_for_every_class_that_it_shows():
    images = {1: {4}, 2: {4, 5}, 3: {4}}
    assert labeled_images(images, [1, 2, 3], 1) == {2}  # for 5, which is in one image alone
    assert labeled_images(images, [1, 2, 3], 2) == {2, 1}  # 4 lacks one, 5 has no more


def test_the_class_that_the_fewest_images_show_comes_first_whatever_its_id():
    assert labeled_images({1: {4}, 2: {4, 9}}, [1, 2], 1) == {2}


def test_of_equals_the_class_with_the_lower_id_comes_first():
    # Image 2 for class 4 serves 5 as well; image 1 for class 5 would not serve 4.
    assert labeled_images({1: {5}, 2: {4, 5}, 3: {4}}, [1, 2, 3], 1) == {2}


def test_classes_take_turns_so_that_more_shots_only_add_images():
    images = {1: {4}, 2: {4}, 3: {4, 5}, 4: {5}, 5: {5}, 6: {5}}
    # One: 4 gets image 1, 5 gets 3. Two: 4 has 1 and 3 by now, 5 gets 4. Three: 2 and 5.
    found = [labeled_images(images, range(1, 7), shots) for shots in (1, 2, 3, 4)]
    assert found == [{1, 3}, {1, 3, 4}, {1, 3, 4, 2, 5}, {1, 2, 3, 4, 5, 6}]


# --- the split ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shots", [1, 2, 5, 100])
def test_every_class_has_as_many_labeled_images_as_asked_for_or_all(shots):
    labeled = shots_split(Shown(MANY, CLASSES), shots, 1).labeled
    for c in CLASSES:
        showing = sum(c in found for found in MANY.values())
        assert sum(c in MANY[i] for i in labeled) >= min(shots, showing)
    assert all(MANY[i] for i in labeled)  # none without a class


def test_the_fold_is_the_seed_of_numpy_s_legacy_generator_over_ascending_ids():
    ids = [70 - 3 * i for i in range(20)]
    np.random.seed(3)
    first = np.random.permutation(20)[:2]
    split = shots_split(Shown({i: {1} for i in ids}, CLASSES), 2, 3)
    assert set(split.labeled) == {sorted(ids)[p] for p in first}


def test_folds_repeat_and_differ_and_the_global_generator_is_left_alone():
    shown = Shown(MANY, CLASSES)
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    assert shots_split(shown, 5, 1) == shots_split(shown, 5, 1)
    assert np.random.rand() == expected
    assert len({shots_split(shown, 5, fold).labeled for fold in range(1, 6)}) == 5


def test_the_order_of_images_and_classes_in_dicts_makes_no_difference():
    turned = {i: MANY[i] for i in random.Random(0).sample(sorted(MANY), len(MANY))}
    other = Shown(turned, dict(reversed(CLASSES.items())))
    assert shots_split(other, 5, 1) == shots_split(Shown(MANY, CLASSES), 5, 1)


def test_parts_are_complete_and_ascending_and_the_manifest_holds_the_shots(tmp_path):
    split = shots_split(Shown(MANY, CLASSES), 2, 1, source="s")
    assert sorted(split.labeled + split.unlabeled) == sorted(MANY)
    assert list(split.labeled) == sorted(split.labeled)
    assert list(split.unlabeled) == sorted(split.unlabeled)
    assert (split.source, split.family, split.percent) == ("s", "shots", None)
    assert (split.count, split.fold) == (2, 1)
    assert read_manifest(write_manifest(split, tmp_path / "split.json")) == split


@pytest.mark.parametrize(
    "images, arguments, message",
    [
        ({}, (1, 1), "at least one image"),
        ({1: set()}, (1, 1), "no image shows a class"),
        ({1: {1}}, (0, 1), "shots = 0: use at least 1"),
        ({1: {1}}, (1, -1), "fold = -1"),
    ],
)
def test_what_cannot_be_split(images, arguments, message):
    with pytest.raises(ConfigError, match=message):
        shots_split(Shown(images, CLASSES), *arguments)


@pytest.mark.parametrize(
    "images, classes, shots, lines",
    [
        ({}, {}, 1, []),
        ({1: {1}}, {1: "cat"}, 1, []),
        ({1: {1}}, {1: "cat"}, 2, ["fewer than 2 images show cat (1)"]),
        ({}, {2: "dog", 1: "cat"}, 1, ["fewer than 1 images show cat (none), dog (none)"]),
        ({1: {1, 3}, 2: {1}}, CLASSES, 2, ["fewer than 2 images show dog (none), fox (1)"]),
    ],
)
def test_classes_with_too_few_images_are_named_in_one_line(images, classes, shots, lines):
    assert scarce_classes(Shown(images, classes), shots) == lines


# --- what images show ---------------------------------------------------------------------------

BOX = {"image_id": 3, "category_id": 7, "bbox": [0, 0, 4, 4]}


def coco(*annotations, **lists):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 8, "width": 8} for i in (9, 3)]
    categories = [{"id": 7, "name": "cat"}, {"id": 5, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories} | lists


@pytest.mark.parametrize(
    "annotations, shown",
    [
        ([], {3: set(), 9: set()}),
        ([BOX], {3: {7}, 9: set()}),
        ([BOX, BOX, {**BOX, "category_id": 5}], {3: {5, 7}, 9: set()}),
        ([BOX, {**BOX, "image_id": 9, "category_id": 5}], {3: {7}, 9: {5}}),
        # What training leaves out shows nothing: crowds, no extent, unknown classes and images.
        ([{**BOX, "iscrowd": 1}], {3: set(), 9: set()}),
        ([{**BOX, "bbox": [0, 0, 0, 4]}], {3: set(), 9: set()}),
        ([{**BOX, "bbox": [9, 0, 4, 4]}], {3: set(), 9: set()}),
        ([{**BOX, "category_id": 6}, {**BOX, "image_id": 4}], {3: set(), 9: set()}),
    ],
)
def test_an_image_shows_the_classes_of_the_boxes_that_are_learned_from(annotations, shown):
    found = shown_in(coco(annotations=annotations), "my.json")
    assert found == Shown(shown, {5: "dog", 7: "cat"})


@pytest.mark.parametrize(
    "content, message",
    [
        ({}, "at least one image"),
        (coco(images=[]), "at least one image"),
        (coco(images=coco()["images"] * 2), "2 image ids occur more than once"),
        (coco(images=[{"id": 1}]), r"my.json: images\[0\] needs a file_name"),
        (coco(annotations=[BOX], categories=7), 'my.json: "categories" is empty'),
        (coco(categories=[{"id": 1, "name": "a"}] * 2), "my.json: category id 1 occurs twice"),
    ],
)
def test_images_and_classes_must_be_distinguishable(content, message):
    with pytest.raises(ConfigError, match=message) as error:
        shown_in(content, "my.json")
    assert "\n" not in str(error.value)
