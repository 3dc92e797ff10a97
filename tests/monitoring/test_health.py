"""Which pseudo boxes a run warns of, and how often."""

import logging
from types import SimpleNamespace

import pytest

from soft_teacher import ConfigError
from soft_teacher.monitoring.health import HealthCheck, diagnose
from soft_teacher.monitoring.statistics import ONE, Totals

SCORE = "PseudoLabeler.score_thresh, now 0.9"
VARIANCE = "PseudoLabeler.variance_thresh, now 0.02"
# 100 images, 20 detections, 3 pseudo boxes and 5 candidates each
HEALTHY = dict(
    images=100, detections=2000, confident=300, candidates=500, stable=250, measured=500,
    variance=15 * ONE, best_score=0.99,
)  # fmt: skip


# what differs from a healthy run -> for each condition that is found, words of its line
CASES = {
    "no unlabeled images": (dict.fromkeys(HEALTHY, 0), {}),
    "healthy": ({}, {}),
    "no detections": (
        dict(detections=0, confident=0, candidates=0, stable=0),
        {"no pseudo boxes": ""},
    ),
    "no pseudo boxes": (
        dict(confident=0, best_score=0.61),
        {
            "no pseudo boxes": "no detection is a pseudo box, the teacher's best score is 0.61 "
            f"(0.99 since the start): lower {SCORE}, or let the teacher learn longer from labels "
            "alone (BatchSchedule.burn_in)"
        },
    ),
    "one pseudo box": (dict(confident=1), {}),
    "50 per image": (dict(detections=9000, confident=5000), {}),
    "51 per image": (
        dict(detections=9000, confident=5100),
        {"many pseudo boxes": f"51 pseudo boxes per image: raise {SCORE}"},
    ),
    "95 of 100 detections": (dict(detections=100, confident=95), {}),
    "96 of 100 detections": (
        dict(detections=100, confident=96),
        {
            "nearly every detection": "96% of the teacher's detections are pseudo boxes: raise "
            f"{SCORE}, unless the teacher is right as often"
        },
    ),
    "all of few detections": (dict(detections=49, confident=49), {}),
    "many and all": (dict(detections=6000, confident=6000), {"many pseudo boxes": ""}),
    "no candidate is stable": (
        dict(stable=0),
        {
            "no stable box": "none of 500 jittered boxes is a pseudo box for regression, "
            f"mean variance 0.03: raise {VARIANCE}"
        },
    ),
    "no variance is finite": (
        dict(stable=0, measured=0, variance=0),
        {"no stable box": "mean variance inf"},
    ),
    "one candidate is stable": (dict(stable=1), {}),
    "every candidate is stable": (
        dict(stable=500),
        {
            "every box stable": "all of 500 jittered boxes are pseudo boxes for regression, "
            f"mean variance 0.03: lower {VARIANCE}"
        },
    ),
    "all but one": (dict(stable=499), {}),
    "few candidates, none stable": (dict(candidates=49, stable=0), {}),
    "few candidates, all stable": (dict(candidates=49, stable=49), {}),
    "without jitter": (dict(variance_thresh=None, candidates=0, stable=300), {}),
    "neither kind": (
        dict(confident=0, stable=0),
        {"no pseudo boxes": "", "no stable box": ""},
    ),
    "all precomputed labels": (dict(detections=300, confident=300, given=True), {}),
    "many precomputed labels": (dict(confident=6000, given=True), {"many pseudo boxes": ""}),
    "no precomputed label": (
        dict(confident=0, given=True),
        {
            "no pseudo boxes": "no precomputed pseudo label is a pseudo box, the best score is "
            f"0.99: lower {SCORE}"
        },
    ),
}


@pytest.mark.parametrize("changes, expected", CASES.values(), ids=CASES.keys())
def test_conditions_and_lines_that_name_the_numbers_and_what_to_change(changes, expected):
    settings = {"variance_thresh": 0.02, "given": False}
    settings = {key: changes.get(key, value) for key, value in settings.items()}
    counts = {**HEALTHY, **{k: v for k, v in changes.items() if k not in settings}}
    found = diagnose(Totals(**counts), best_score=0.99, score_thresh=0.9, **settings)
    assert list(found) == list(expected)
    for condition, text in expected.items():
        assert text in found[condition] and "\n" not in found[condition]


# --- when they are looked for, and how often they are logged


def health(patience=10):
    labeler = SimpleNamespace(score_thresh=0.9, variance_thresh=0.02, measure_stability=True)
    return HealthCheck(labeler, patience=patience)


NOTHING, WELL = Totals(), Totals(**HEALTHY)
ILL = Totals(**{**HEALTHY, "confident": 0, "best_score": 0.5})
STABLE = Totals(**{**HEALTHY, "stable": 500})
NONE, ALL = "no detection", "all of 500"


@pytest.mark.parametrize(
    "patience, windows, expected",
    [
        (10, [], []),
        (10, [WELL] * 10, []),
        (10, [NOTHING] * 10, []),
        # A condition must last.
        (40, [ILL, ILL, ILL, WELL, ILL, ILL, ILL], []),
        (40, [ILL, ILL, ILL, WELL, ILL, ILL, ILL, ILL], [f"step 79, last 40 steps: {NONE}"]),
        # Each condition is on its own, and repeated after 1000 steps at the earliest.
        (10, [ILL, STABLE, STABLE],
         [f"step 9, last 10 steps: {NONE}", f"step 19, last 10 steps: {ALL}"]),
        (10, [ILL] * 201, [f"step {n}, last 10 steps: {NONE}" for n in (9, 1009, 2009)]),
        # The best score is that of the whole run.
        (10, [WELL, ILL], ["step 19, last 10 steps: no detection is a pseudo box, the teacher's "
                           "best score is 0.50 (0.99 since the start)"]),
    ],
    ids=lambda value: f"{len(value)} lines" if isinstance(value, list) else str(value),
)  # fmt: skip
@pytest.mark.parametrize("interrupted", [False, True])
def test_warnings_of_windows_of_10_steps_with_and_without_resumes(
    patience, windows, expected, interrupted, caplog
):
    caplog.set_level(logging.WARNING, logger="soft_teacher.monitoring.health")
    check = health(patience)
    for number, totals in enumerate(windows):
        if interrupted and number % 3 == 0:
            saved, check = check.state_dict(), health(patience)
            check.load_state_dict(saved)
        check.add(totals, steps=10 * (totals.images > 0), step=10 * number + 9)
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected))


@pytest.mark.parametrize("patience", [0, -1])
def test_a_patience_below_one_step_is_refused(patience):
    with pytest.raises(ConfigError, match=r"^HealthCheck\.patience .*\Z"):
        health(patience)
