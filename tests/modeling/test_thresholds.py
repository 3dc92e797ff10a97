"""Thresholds at which pseudo boxes per image are as dense as labeled boxes, class by class."""

import numpy as np
import pytest
import torch
from steps import NAN, detections, labeled, targets

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling.thresholds import BINS, DensityThresholds, density_thresholds

# Bins of 0.1: per class the detections of each, images, boxes wanted per image, the thresholds.
EMPTY = [0] * 10
SOME = [9, 0, 3, 0, 0, 1, 0, 2, 0, 1]  # 1 above 0.9, 3 above 0.7, 4 above 0.5, 7 above 0.2
BY_HAND = {
    "no classes": (np.zeros((0, 10)), 1, [], []),
    "no images": ([EMPTY, EMPTY], 0, [2, 0], [0, 1]),
    "nothing found": ([EMPTY], 4, [0.5], [0]),
    "nothing wanted, nothing found": ([EMPTY], 4, [0], [1]),
    "nothing wanted": ([SOME], 4, [0], [1]),
    "fewer than any": ([SOME], 4, [0.2], [1]),
    "as many as the best bin": ([SOME], 4, [0.25], [0.8]),
    "almost as many as two bins": ([SOME], 4, [0.74], [0.8]),
    "as many as two bins": ([SOME], 4, [0.75], [0.6]),
    "as many as three bins": ([SOME], 4, [1], [0.3]),
    "more than any": ([SOME], 4, [5], [0]),
    "all alike": ([[0] * 9 + [8]], 4, [1], [1]),
    "classes apart": ([SOME, EMPTY, SOME], 4, [0.75, 0.75, 0.25], [0.6, 0, 0.8]),
}


@pytest.mark.parametrize("histogram, images, wanted, expected", BY_HAND.values(), ids=BY_HAND)
def test_the_lowest_score_above_which_there_are_no_more_boxes_than_wanted(
    histogram, images, wanted, expected
):
    numbers = (torch.tensor(x, dtype=torch.float32) for x in (histogram, images, wanted))
    np.testing.assert_allclose(density_thresholds(*numbers), expected, rtol=0, atol=1e-6)


# --- over the steps of a run


def thresholds_of(settings, classes=3, score_thresh=0.9):
    found = DensityThresholds(**settings)
    found.allocate(classes, score_thresh)
    return found


def image_with(classes):
    return labeled(instances=targets([[1, 1, 9, 9]] * len(classes), classes))


def found_on(classes, scores):
    return detections([[1, 1, 9, 9]] * len(classes), classes, scores)


class ByHand:
    """The same in float64, detection by detection."""

    def __init__(
        self,
        foreground=0.8,
        ignore=0.0,
        regression=0.0,
        window=200,
        floor=0.05,
        start=0.9,
        classes=3,
    ):
        self.densities = [foreground, *([ignore] if ignore else [])]
        self.densities += [regression] if regression else []
        self.window, self.floor = window, floor
        self.found, self.images = [], 0.0  # [weight, class, bin], weighted images
        self.boxes, self.labeled = np.zeros(classes), 0
        self.thresholds = np.full((len(self.densities), classes), start)

    def step(self, labels, scored):
        for classes in labels:
            self.boxes += np.bincount(classes, minlength=len(self.boxes)) if classes else 0
        self.labeled += len(labels)
        kept = (1 - 1 / self.window) ** len(scored)
        self.found = [[kept * w, c, b] for w, c, b in self.found]
        self.images = kept * self.images + len(scored)
        for classes, scores in scored:
            self.found += [[1.0, c, min(int(s * BINS), BINS - 1)] for c, s in zip(classes, scores)]
        if self.images and self.labeled:
            for row, density in zip(self.thresholds, self.densities):
                row[:] = [self._of(c, density) for c in range(len(self.boxes))]

    def _of(self, which, density):
        wanted = density * self.boxes[which] / self.labeled
        if not wanted:
            return 1.0
        edge = BINS
        while edge and self._above(which, edge - 1) / self.images <= wanted:
            edge -= 1
        return max(edge / BINS, self.floor)

    def _above(self, which, edge):
        return sum(w for w, c, b in self.found if c == which and b >= edge)


# Steps of labels (classes per labeled image) and detections (classes, scores per unlabeled one).
# No score on the edge of a bin, no count that equals what is wanted.
RNG = np.random.default_rng(0)
MANY = [
    (
        [RNG.integers(0, 2, RNG.integers(0, 5)).tolist() for _ in range(RNG.integers(0, 4))],
        [
            (RNG.integers(0, 3, 9).tolist(), ((RNG.integers(0, BINS, 9) + 0.5) / BINS).tolist())
            for _ in range(RNG.integers(0, 4))
        ],
    )
    for _ in range(12)
]
RUNS = {
    "no steps": [],
    "nothing": [([], [])],
    "empty images": [([[]], [([], [])])],
    "one detection": [([[0]], [([0], [0.7011])])],
    "many": MANY,
}
SETTINGS = {
    "default": {},
    "dense": {"foreground": 1.37, "window": 5},
    "the last image alone": {"window": 1},
    "two thresholds": {"foreground": 0.61, "ignore": 2.23, "window": 7},
    "for regression": {"foreground": 0.61, "regression": 0.37, "window": 7},
    "all three": {"foreground": 0.61, "ignore": 2.23, "regression": 0.37},
    "a floor": {"foreground": 3.3, "floor": 0.4},
}


@pytest.mark.parametrize("steps", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_step_ends_with_the_thresholds_of_all_until_then(settings, steps):
    found, expected = thresholds_of(settings), ByHand(**settings)
    seen = [found.thresholds.clone()]
    for labels, scored in steps:
        found.count_labels([image_with(classes) for classes in labels])
        found.count_scores([found_on(*x) for x in scored])
        assert torch.equal(found.thresholds, seen[-1])  # not before the step has ended
        found.update()
        expected.step(labels, scored)
        np.testing.assert_allclose(found.thresholds, expected.thresholds, rtol=0, atol=1e-6)
        assert found.pending.sum() == 0
        seen.append(found.thresholds.clone())
    if steps is MANY:
        assert any((0.05 < t).all() and (t[:, :2] < 1).all() for t in seen[1:])
        assert (found.thresholds[:, 2] == 1).all()  # without labels


def test_one_threshold_for_all_until_labels_and_scores_are_there():
    found = thresholds_of({"ignore": 2}, classes=2, score_thresh=0.7)
    found.update()
    assert found.thresholds.flatten().tolist() == pytest.approx([0.7] * 4)
    found.count_scores([found_on([0], [0.9])])
    found.update()
    assert found.thresholds.flatten().tolist() == pytest.approx([0.7] * 4)
    found.count_labels([image_with([0])])
    found.update()
    # The one detection of class 0 is more than 0.8 wanted, and less than 2.
    assert found.thresholds.flatten().tolist() == pytest.approx([0.902, 1, 0.05, 1])


def test_the_first_threshold_is_not_below_the_floor_either():
    assert thresholds_of({"floor": 0.3}, score_thresh=0.2).thresholds.min() == pytest.approx(0.3)


def test_detections_are_held_against_the_thresholds_of_their_classes():
    levels = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    for settings in ({}, {"ignore": 2}, {"regression": 0.5}):
        found, names = thresholds_of(settings), ["foreground", *settings]
        found.thresholds.copy_(torch.tensor(levels)[: len(names)])
        assert {n: m.tolist() for n, m in found.above(detections()).items()} == dict.fromkeys(
            names, []
        )
        above = found.above(found_on([2, 0, 2, 1], [0.3, 0.41, 0.61, 0.3]))
        upper, lower = [False, True, True, True], [False, True, True, False]
        assert {n: m.tolist() for n, m in above.items()} == dict(zip(names, (upper, lower)))


def test_scores_at_both_ends_and_none_are_counted_in_the_bins_there_are():
    found = thresholds_of({}, classes=1)
    found.count_scores([found_on([0] * 4, [0.0, 1.0, 0.999, NAN])])
    histogram = found.pending[:BINS]
    assert histogram.sum() == 4 and histogram[0] == 2 and histogram[-1] == 2


def test_the_state_is_no_part_of_the_weights():
    found = thresholds_of({})
    assert found.state_dict() == {} and not list(found.parameters())
    assert {"thresholds", "pending", "scores", "images", "boxes", "labeled"} == {
        name for name, _ in found.named_buffers()
    }


# --- configuration

# attribute and value, values that are refused
KEYS = {
    "FOREGROUND": (1.25, [0, -1, NAN]),
    "IGNORE": (2.5, [-1, 0.5, 0.8, NAN]),
    "REGRESSION": (0.5, [-0.1, 0.9, NAN]),
    "WINDOW": (17, [0, -3]),
    "FLOOR": (0.25, [0.0, 1.0, -0.1, NAN]),
}


def test_the_defaults_are_those_of_the_config(tiny_cfg):
    for found in (DensityThresholds(), DensityThresholds(tiny_cfg)):
        assert (found.densities, found.window, found.floor) == ({"foreground": 0.8}, 200, 0.05)
        assert not found.ignores and not found.regresses


@pytest.mark.parametrize("key", KEYS)
def test_every_config_key_is_read_and_checked(tiny_cfg, key):
    value, refused = KEYS[key]
    tiny_cfg.SOFT_TEACHER.DENSITY[key] = value
    found = DensityThresholds(tiny_cfg)
    read = {**found.densities, "window": found.window, "floor": found.floor}
    assert read[key.lower()] == value
    assert (found.ignores, found.regresses) == (key == "IGNORE", key == "REGRESSION")
    for bad in refused:
        tiny_cfg.SOFT_TEACHER.DENSITY[key] = bad
        with pytest.raises(ConfigError) as error:
            DensityThresholds(tiny_cfg)
        assert str(error.value).startswith(f"DensityThresholds.{key.lower()} must ")
        assert "\n" not in str(error.value)
        assert YAML_WORDS(str(error.value)).startswith(f"SOFT_TEACHER.DENSITY.{key} must ")


def test_no_config_key_is_forgotten_here(tiny_cfg):
    assert set(tiny_cfg.SOFT_TEACHER.DENSITY) == {"ENABLED", *KEYS}
