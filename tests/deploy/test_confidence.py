"""Thresholds of classes."""

import pytest
import torch
from predictions import instances

from soft_teacher import ConfigError
from soft_teacher.deploy.confidence import Confidence

NAMES = ["cat", "dog", "=)"]


def of(wanted, lowest=0.05):
    return Confidence.of(wanted, NAMES, lowest=lowest, key="FLOOR")


@pytest.mark.parametrize(
    "wanted, thresholds",
    [
        (None, (0.05, 0.05, 0.05)),
        (0.5, (0.5, 0.5, 0.5)),
        ({}, (0.05, 0.05, 0.05)),
        ({"dog": 0.25, "=)": 0.75}, (0.05, 0.25, 0.75)),
    ],
)
def test_every_class_has_a_threshold(wanted, thresholds):
    assert of(wanted).thresholds == thresholds


@pytest.mark.parametrize("wanted", [0.05, {"cat": 0.05}])
def test_the_detector_s_own_floor_is_a_threshold(wanted):
    assert of(wanted).thresholds[0] == 0.05


@pytest.mark.parametrize(
    "wanted, message",
    [
        ({"dgo": 0.5}, "confidence of 'dgo', which is no class: did you mean dog?"),
        ({"horse": 0.5}, "no class: they are ['cat', 'dog', '=)']"),
        (1.0, "confidence must be a number from 0 to below 1, got 1.0"),
        (float("nan"), "must be a number from 0 to below 1"),
        (True, "must be a number from 0 to below 1"),
        ("0.5", "must be a number from 0 to below 1"),
        (0.01, "confidence 0.01 is below FLOOR (0.05), which drops such boxes: lower that key"),
    ],
)
def test_a_mistake_is_one_line(wanted, message):
    with pytest.raises(ConfigError) as error:
        of(wanted)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "classes, scores, above",
    [
        ([], [], []),
        ([0, 1, 1, 2], [0.5, 0.25, 0.26, 0.7], [False, False, True, False]),
    ],
)
def test_boxes_above_the_threshold_of_their_class_count(classes, scores, above):
    found = instances(torch.rand(len(scores), 4).tolist(), classes, scores)
    assert Confidence((0.5, 0.25, 0.75)).above(found).tolist() == above


def test_lowered_thresholds_stay_above_what_the_detector_drops():
    lowered = Confidence((0.5, 0.1, 0.05, 0.01)).lowered(0.1, 0.05).thresholds
    assert lowered == pytest.approx((0.4, 0.05, 0.05, 0.01))
