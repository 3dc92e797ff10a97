"""How often a run is diagnosed, and how often it warns."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage
from watching import watched_model

from soft_teacher import ConfigError
from soft_teacher.monitoring.health import DeclineCheck, HealthCheck
from soft_teacher.monitoring.statistics import ONE, Totals

# 100 images, 20 detections, 3 pseudo boxes and 5 candidates each
WELL = Totals(
    images=100, detections=2000, confident=300, candidates=500, stable=250, measured=500,
    variance=15 * ONE, best_score=0.99,
)  # fmt: skip
ILL = replace(WELL, confident=0, best_score=0.5)
STABLE = replace(WELL, stable=500)
NOTHING = Totals()
NONE, ALL = "no detection", "500 of 500"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="soft_teacher.monitoring.health")
    return lambda: [record.getMessage() for record in caplog.records]


def health(patience=10):
    return HealthCheck(watched_model(), patience=patience)


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
    patience, windows, expected, interrupted, warnings
):
    check = health(patience)
    for number, totals in enumerate(windows):
        if interrupted and number % 3 == 1:
            saved, check = check.state_dict(), health(patience)
            check.load_state_dict(saved)
        for _ in range(10 * (totals.images > 0)):
            check.count()
        if interrupted and number % 3 == 0:
            # A checkpoint between two collections holds what waits.
            saved, check = check.state_dict(totals), health(patience)
            check.load_state_dict(saved)
        else:
            check.add(totals)
        if check.is_due:
            check.check(10 * number + 9)
    assert len(warnings()) == len(expected)
    assert all(text.startswith(start) for text, start in zip(warnings(), expected))


@pytest.mark.parametrize("patience", [0, -1])
def test_a_patience_below_one_step_is_refused(patience):
    with pytest.raises(ConfigError, match=r"^HealthCheck\.patience .*\Z"):
        health(patience)


# --- the teacher's AP


def evaluated(found, *, burn_in=300, interrupted=False, state=None):
    """The check of a run with these evaluations, {steps done: AP}; None evaluates the student."""
    check = DeclineCheck(watched_model(), "teacher/bbox/AP", burn_in=burn_in)
    for done, ap in found.items():
        if interrupted:
            saved = check.state_dict()
            check = DeclineCheck(watched_model(), "teacher/bbox/AP", burn_in=burn_in)
            check.load_state_dict(saved)
        with EventStorage(done - 1) as storage:
            check.trainer = SimpleNamespace(iter=done - 1, storage=storage)
            storage.put_scalar("student/bbox/AP" if ap is None else check.metric, ap or 0.0)
            check.after_step()
            storage.step()
            check.trainer.iter = done  # a step without evaluation, with the last AP in the storage
            check.after_step()
    return check


NAN = float("nan")


@pytest.mark.parametrize(
    "found, expected",
    [
        ({}, []),
        ({400: None, 600: None}, []),
        # During the burn-in an AP may fall, and the last one before its end counts.
        ({100: 40.0, 200: 30.0, 250: 20.0, 300: 30.0}, []),
        ({200: 20.0, 300: 30.0, 400: 29.0}, []),
        ({200: 20.0, 300: 30.0, 400: 28.9}, ["step 399: the teacher's AP is 28.9, it was 30.0"]),
        ({200: 30.0, 400: 25.0}, ["step 399: the teacher's AP is 25.0, it was 30.0 after 200"]),
        # Without one, the first after it.
        ({400: 30.0, 500: 35.0, 600: 25.0}, ["step 599: the teacher's AP is 25.0, it was 30.0"]),
        # A teacher that finds nothing is no reference, and worse than any.
        ({300: NAN, 400: 30.0, 500: 29.5}, []),
        ({200: 30.0, 300: NAN, 400: NAN}, ["step 399: the teacher's AP is nan, it was 30.0"]),
        # Repeated after 1000 steps
        ({300: 30.0, **{n: 9.0 for n in range(400, 2500, 100)}}, ["step 399:", "step 1399:",
                                                                  "step 2399:"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("interrupted", [False, True])
def test_an_ap_below_that_of_the_burn_in_with_and_without_resumes(
    found, expected, interrupted, warnings
):
    evaluated(found, interrupted=interrupted)
    assert len(warnings()) == len(expected)
    assert all(text.startswith(start) for text, start in zip(warnings(), expected))
