"""Which pseudo boxes a training warns of, and how often."""

import logging
from types import SimpleNamespace

import pytest

from soft_teacher import ConfigError
from soft_teacher.monitoring.health import HealthCheck, diagnose
from soft_teacher.monitoring.statistics import ONE, Totals

SCORE, VARIANCE = "PseudoLabeler.score_thresh", "PseudoLabeler.variance_thresh"
# 100 images, 20 detections, 3 pseudo boxes and 5 candidates each
HEALTHY = dict(
    images=100, detections=2000, confident=300, candidates=500, stable=250, measured=500,
    variance=15 * ONE, best_score=0.99,
)  # fmt: skip


def diagnosed(variance_thresh=0.02, best_score=0.99, given=False, **changes):
    return diagnose(
        Totals(**{**HEALTHY, **changes}),
        best_score=best_score,
        score_thresh=0.9,
        variance_thresh=variance_thresh,
        given=given,
    )


def test_without_unlabeled_images_there_is_nothing_to_say():
    assert diagnose(Totals(), best_score=0, score_thresh=0.9, variance_thresh=0.02) == {}


# what differs from a healthy training, conditions that are found
CASES = {
    "healthy": ({}, []),
    "no detections": (
        dict(detections=0, confident=0, candidates=0, stable=0),
        ["no pseudo boxes"],
    ),
    "no pseudo boxes": (dict(confident=0), ["no pseudo boxes"]),
    "one pseudo box": (dict(confident=1), []),
    "50 per image": (dict(detections=9000, confident=5000), []),
    "51 per image": (dict(detections=9000, confident=5100), ["many pseudo boxes"]),
    "95 of 100 detections": (dict(detections=100, confident=95), []),
    "96 of 100 detections": (dict(detections=100, confident=96), ["nearly every detection"]),
    "all of few detections": (dict(detections=49, confident=49), []),
    "many and all": (dict(detections=6000, confident=6000), ["many pseudo boxes"]),
    "no candidate is stable": (dict(stable=0), ["no stable box"]),
    "one candidate is stable": (dict(stable=1), []),
    "every candidate is stable": (dict(stable=500), ["every box stable"]),
    "all but one": (dict(stable=499), []),
    "few candidates, none stable": (dict(candidates=49, stable=0), []),
    "few candidates, all stable": (dict(candidates=49, stable=49), []),
    "without jitter": (dict(variance_thresh=None, candidates=0, stable=300), []),
    "neither kind": (dict(confident=0, stable=0), ["no pseudo boxes", "no stable box"]),
}


@pytest.mark.parametrize("changes, conditions", CASES.values(), ids=CASES.keys())
def test_conditions(changes, conditions):
    assert list(diagnosed(**changes)) == conditions


@pytest.mark.parametrize(
    "changes, parts",
    [
        (
            dict(confident=0, best_score=0.61),
            [f"lower {SCORE}, now 0.9", "BatchSchedule.burn_in", "0.61", "(0.99 since the start)"],
        ),
        (dict(detections=9000, confident=6300), ["63 pseudo boxes", f"raise {SCORE}, now 0.9"]),
        (dict(detections=100, confident=98), ["98% of", f"raise {SCORE}, now 0.9"]),
        (dict(stable=0), ["none of 500", f"raise {VARIANCE}, now 0.02", "mean variance 0.03"]),
        (dict(stable=0, measured=0, variance=0), ["none of 500", "mean variance inf"]),
        (dict(stable=500), ["all of 500", f"lower {VARIANCE}, now 0.02", "mean variance 0.03"]),
    ],
)
def test_a_warning_is_one_line_that_names_the_numbers_and_what_to_change(changes, parts):
    totals = Totals(**{**HEALTHY, **changes})
    (text,) = diagnose(totals, best_score=0.99, score_thresh=0.9, variance_thresh=0.02).values()
    assert "\n" not in text and all(part in text for part in parts)


def test_that_all_given_labels_pass_the_threshold_is_no_wonder():
    assert list(diagnosed(detections=300, confident=300)) == ["nearly every detection"]
    assert diagnosed(detections=300, confident=300, given=True) == {}
    assert list(diagnosed(confident=6000, given=True)) == ["many pseudo boxes"]


def test_given_labels_below_the_threshold_are_told_without_a_word_of_the_teacher():
    found = diagnosed(confident=0, given=True, best_score=0.61)
    assert list(found.values()) == [
        f"no given label is a pseudo box, the best score is 0.61: lower {SCORE}, now 0.9"
    ]


# --- when they are looked for, and how often they are told


def health(patience=10):
    labeler = SimpleNamespace(score_thresh=0.9, variance_thresh=0.02, measure_stability=True)
    return HealthCheck(labeler, patience=patience)


ILL = Totals(**{**HEALTHY, "confident": 0, "best_score": 0.5})
WELL = Totals(**HEALTHY)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="soft_teacher.monitoring.health")
    return lambda: [r.getMessage() for r in caplog.records]


def test_a_healthy_training_is_quiet(warnings):
    check = health()
    for step in range(0, 100, 10):
        check.add(WELL, steps=10, step=step)
    assert warnings() == []


def test_steps_without_unlabeled_images_do_not_count(warnings):
    check = health()
    for step in range(0, 100, 10):
        check.add(Totals(), steps=0, step=step)
    assert warnings() == []


def test_a_condition_must_last(warnings):
    check = health(patience=40)
    for step, totals in enumerate([ILL, ILL, ILL, WELL, ILL, ILL, ILL]):
        check.add(totals, steps=10, step=10 * step + 9)
    assert warnings() == []
    check.add(ILL, steps=10, step=79)
    (text,) = warnings()
    assert text.startswith("step 79, last 40 steps: no detection")


def test_the_best_score_is_the_best_of_the_whole_training(warnings):
    check = health(patience=10)
    check.add(WELL, steps=10, step=9)
    check.add(ILL, steps=10, step=19)
    assert "best score is 0.50 (0.99 since the start)" in warnings()[0]


def test_a_warning_is_repeated_after_1000_steps_at_the_earliest(warnings):
    check = health(patience=10)
    for step in range(99, 3000, 100):
        check.add(ILL, steps=100, step=step)
    assert [text.split(",")[0] for text in warnings()] == ["step 99", "step 1099", "step 2099"]


def test_each_condition_is_told_on_its_own(warnings):
    check = health(patience=10)
    check.add(ILL, steps=10, step=9)
    check.add(Totals(**{**HEALTHY, "stable": 500}), steps=10, step=19)
    check.add(Totals(**{**HEALTHY, "stable": 500}), steps=10, step=29)
    assert len(warnings()) == 2 and "no detection" in warnings()[0] and "all of" in warnings()[1]


def test_a_resumed_check_goes_on_where_it_was(warnings):
    def run(interrupted):
        check = health(patience=40)
        for number, step in enumerate(range(9, 2400, 10)):
            if interrupted and number % 3 == 0:
                saved, check = check.state_dict(), health(patience=40)
                check.load_state_dict(saved)
            check.add(ILL if step > 50 else WELL, steps=10, step=step)
        return warnings()

    whole = run(interrupted=False)
    assert len(whole) == 3
    assert run(interrupted=True) == 2 * whole


@pytest.mark.parametrize("patience", [0, -1])
def test_a_patience_below_one_step_is_refused(patience):
    with pytest.raises(ConfigError, match=r"^HealthCheck\.patience .*\Z"):
        health(patience)
