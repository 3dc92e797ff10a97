"""A plan says what a person with a few images would otherwise have to know."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from soft_teacher.analysis.data_stats import DataStats, stats_of, weighted_quantiles
from soft_teacher.analysis.plan import Hardware, plan
from soft_teacher.data.datasets.dataset_dicts import dataset_reading
from soft_teacher.modeling import FasterRCNNFamily, RetinaNetFamily
from soft_teacher.modeling.families.base import Thresholds

CPU, GPU = Hardware("cpu"), Hardware("cuda", processes=2, memory=24.0)
CELLS = DataStats(
    images=20,
    boxes=Counter(red=80, white=20),
    sides=np.repeat([100.0, 200.0], [80, 20]),
    weights=np.repeat([1 / 80, 1 / 20], [80, 20]),
    ratios=np.linspace(0.5, 2.0, 100),
    size=(480.0, 640.0),
)


def plan_of(data=CELLS, unlabeled=300, size=CELLS.size, hardware=CPU, **config):
    unlabeled = replace(stats_of([]), images=unlabeled, size=size)
    usual = {"pretrained": False, "base_lr": 0.00025, "classes_key": "CLASSES", "levels": 3}
    return plan(data, unlabeled, hardware, **usual | config)


def planned(data=CELLS, **options):
    return {override.key: override.value for override in plan_of(data, **options).overrides}


def notes(data=CELLS, **options):
    return plan_of(data, **options).notes


# --- statistics ---------------------------------------------------------------------------------


def test_statistics_of_nothing():
    found = stats_of([])
    assert (found.images, found.boxes, found.size) == (0, Counter(), (0.0, 0.0))
    assert found.boxes_per_image == 0 and len(found.sides) == len(found.weights) == 0


def test_statistics_of_a_dataset(tiny_digits):
    reading = dataset_reading("--labeled", "digits_train")
    found = stats_of([reading, reading])
    annotations = [a for d in reading.dicts for a in d["annotations"]]
    assert found.images == 24 and found.size == (64, 64)
    assert set(found.boxes) == set(reading.classes)
    assert sum(found.boxes.values()) == len(found.sides) == 2 * len(annotations)
    x, y, w, h = annotations[0]["bbox"]
    assert found.sides[0] == pytest.approx((w * h) ** 0.5)
    assert found.ratios[0] == pytest.approx(h / w)
    present = sum(n > 0 for n in found.boxes.values())
    assert found.weights.sum() == pytest.approx(present)  # every class weighs 1


@pytest.mark.parametrize(
    "values, weights, shares, expected",
    [
        ([5.0], [1.0], [0.0, 0.5, 1.0], [5.0, 5.0, 5.0]),
        ([3.0, 1.0, 2.0], [1.0, 1.0, 1.0], [1 / 6, 1 / 2, 5 / 6], [1.0, 2.0, 3.0]),
        ([1.0, 2.0], [9.0, 1.0], [0.5, 0.95], [1.0, 2.0]),
    ],
)
def test_weighted_quantiles(values, weights, shares, expected):
    found = weighted_quantiles(np.array(values), np.array(weights), shares)
    assert found.tolist() == expected


# --- the plan -----------------------------------------------------------------------------------


def test_every_override_has_a_reason_and_a_key_of_its_own():
    found = plan_of(hardware=GPU, pretrained=True).overrides
    assert all(override.reason for override in found)
    assert len({override.key for override in found}) == len(found)


@pytest.mark.parametrize(
    "images, steps",
    [(1, 800), (5, 800), (20, 800), (100, 1800), (10_000, 18_000), (10**7, 180_000)],
)
def test_the_steps_grow_with_the_root_of_the_labeled_images(images, steps):
    assert planned(replace(CELLS, images=images))["SOLVER.MAX_ITER"] == steps


def test_all_steps_fit_into_the_run():
    found = planned()
    assert found["SOLVER.MAX_ITER"] == 800 and found["SOLVER.STEPS"] == (650,)
    assert found["TEST.EVAL_PERIOD"] == found["SOLVER.CHECKPOINT_PERIOD"] == 100
    assert found["SOFT_TEACHER.BURN_IN"] == 200


@pytest.mark.parametrize(
    "hardware, images, rate",
    [
        (CPU, 8, 0.001),
        (GPU, 16, 0.002),
        (Hardware("cuda", memory=6.0), 4, 0.0005),
        (Hardware("cuda", processes=8, memory=80.0), 64, 0.008),
    ],
)
def test_the_batch_fits_the_machine_and_the_learning_rate_the_batch(hardware, images, rate):
    found = planned(hardware=hardware)
    assert found["SOLVER.IMS_PER_BATCH"] == images
    assert found["SOLVER.BASE_LR"] == pytest.approx(rate)
    assert found["SOFT_TEACHER.LABELED_SHARE"] == 0.5 and found["SOFT_TEACHER.ALPHA"] == 1


@pytest.mark.parametrize(
    "size, hardware, edges",
    [
        ((480.0, 640.0), CPU, (240, 384)),
        ((480.0, 640.0), GPU, (480, 768)),
        ((640.0, 480.0), GPU, (480, 768)),
        ((2000.0, 6000.0), GPU, (800, 1333)),
        ((128.0, 128.0), CPU, (128, 160)),
    ],
)
def test_views_are_as_large_as_the_images_and_the_machine_allow(size, hardware, edges):
    found = planned(replace(CELLS, size=size), hardware=hardware)
    assert (found["INPUT.MIN_SIZE_TEST"], found["INPUT.MAX_SIZE_TEST"]) == edges
    assert found["SOFT_TEACHER.AUGMENTATION.SHORT_EDGE"] == edges[0]
    assert found["SOFT_TEACHER.AUGMENTATION.MAX_SIZE"] == edges[1]


def test_images_of_small_boxes_are_enlarged():
    small = replace(CELLS, sides=np.full(100, 8.0))
    assert planned(small, hardware=GPU)["SOFT_TEACHER.AUGMENTATION.SHORT_EDGE"] == 800
    assert "below 8 pixels" not in " ".join(notes(small, hardware=GPU))
    assert "below 4 pixels in the views" in " ".join(notes(small, hardware=CPU))


def test_anchors_follow_the_boxes_classes_weighted_alike():
    """At half the size red boxes have 50 pixels, white ones 100; a third anchor is made up."""
    found = planned()
    assert found["MODEL.ANCHOR_GENERATOR.SIZES"] == [[50], [100], [150]]
    # Half of red is below 1.1, half of white above 1.9.
    assert found["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"] == [[1.1, 1.9]]
    assert "MODEL.ANCHOR_GENERATOR.SIZES" not in planned(pretrained=True)


def test_there_is_an_anchor_for_each_level_of_the_detector():
    """The boxes are 1 to 100 pixels at half the size; a fifth of them belongs to each level."""
    even = replace(CELLS, sides=np.arange(1.0, 101) * 2, weights=np.ones(100))
    sizes = planned(even, levels=5)["MODEL.ANCHOR_GENERATOR.SIZES"]
    assert sizes == [[10], [30], [50], [70], [90]]
    assert "MODEL.ANCHOR_GENERATOR.SIZES" not in planned(levels=0)


def test_the_classes_go_by_the_key_of_the_detector():
    assert planned(classes_key="MODEL.RETINANET.NUM_CLASSES")["MODEL.RETINANET.NUM_CLASSES"] == 2


@pytest.mark.parametrize("images, said", [(20, True), (999, True), (1000, False)])
def test_thresholds_follow_the_labels_where_there_are_few(images, said):
    found = planned(replace(CELLS, images=images))
    assert found.get("SOFT_TEACHER.DENSITY.ENABLED", False) == said
    assert ("SOFT_TEACHER.JITTER.ENABLED" in found) == said


@pytest.mark.parametrize("images", [20, 1000])
def test_thresholds_suit_the_scores_of_the_detector(images):
    """Those of an R-CNN are the config's."""
    data, names = replace(CELLS, images=images), ("SCORE_THRESH", "JITTER.SCORE_THRESH")
    keys = [f"SOFT_TEACHER.{name}" for name in (*names, "JITTER.VARIANCE_THRESH")]
    assert planned(data).keys().isdisjoint(keys)
    suited = planned(data, thresholds=Thresholds(0.4, 0.2, 0.1))
    assert [suited[key] for key in keys] == [0.4, 0.2, 0.1]


def test_what_may_be_an_object_is_ignored_by_detectors_that_can():
    family, dense = FasterRCNNFamily, RetinaNetFamily
    assert planned(ignore=family.ignore)["SOFT_TEACHER.DENSITY.IGNORE"] == 1.3
    assert planned(ignore=dense.ignore)["SOFT_TEACHER.DENSITY.IGNORE"] == 0


@pytest.mark.parametrize("score_floor, planned_floor", [(0.05, None), (0.2, 0.2)])
def test_no_threshold_lies_where_the_detector_finds_nothing(score_floor, planned_floor):
    key = "SOFT_TEACHER.DENSITY.FLOOR"
    assert planned(score_floor=score_floor).get(key) == planned_floor


def test_more_classes_need_more_images_for_their_thresholds():
    assert planned()["SOFT_TEACHER.DENSITY.WINDOW"] == 200
    many = replace(CELLS, boxes=Counter({f"class {n}": 10 for n in range(80)}))
    assert planned(many)["SOFT_TEACHER.DENSITY.WINDOW"] == 2000


def test_what_no_override_can_fix_is_said():
    assert notes() == []
    (rare,) = notes(replace(CELLS, boxes=Counter(red=80, white=3)))
    assert rare.startswith("class 'white' has 3 boxes")
    (few,) = notes(unlabeled=7)
    assert few.startswith("7 unlabeled images for 20 labeled ones")


@pytest.mark.parametrize("size, said", [((480.0, 640.0), False), ((960.0, 1280.0), True)])
def test_objects_of_another_size_in_the_unlabeled_images_are_said(size, said):
    found = [note for note in notes(size=size) if note.startswith("unlabeled images are")]
    assert bool(found) == said
    assert not said or "1280 x 960, labeled ones 640 x 480" in found[0]


def test_images_without_a_known_size_are_measured_by_their_files(tmp_path):
    for number, side in enumerate((10, 20, 60)):
        Image.new("RGB", (side * 2, side)).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    found = stats_of([dataset_reading("--unlabeled", str(tmp_path))])
    assert (found.images, found.size) == (4, (20, 40))


def test_an_evaluation_falls_on_the_end_of_the_burn_in():
    for images in (1, 5, 20, 77, 300):
        found = planned(replace(CELLS, images=images))
        assert found["SOFT_TEACHER.BURN_IN"] % found["TEST.EVAL_PERIOD"] == 0
