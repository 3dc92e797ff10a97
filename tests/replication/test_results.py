"""What finished runs have measured: which network and evaluation count, of boxes and masks."""

import json
import math
from types import SimpleNamespace

import pytest
from replication.results import collect
from replication.tables import OUR_TABLES
from training import CONFIGS

from soft_teacher.runs.record import Record
from soft_teacher.runs.run import Run

TABLE = OUR_TABLES["masks"]
METRICS = ("AP", "AP50", "AP75")


def line(step, **aps):
    """student=(AP,) or teacher=(AP, mask AP)."""
    found = {"iteration": step - 1}
    for network, values in aps.items():
        for task, ap in zip(("bbox", "segm"), values):
            found |= {f"{network}/{task}/{metric}": ap for metric in METRICS}
    return found


@pytest.fixture
def row(tmp_path):
    """row(run, lines): the result of the row of a run with seed 0."""

    def row(name, *lines):
        run = Run(name, CONFIGS / "soft_teacher.yaml", tmp_path / name, any_code=True)
        Record(run.identity.values, ["abc"], 60.0, bool(lines)).write(run.folder)
        (run.folder / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in lines))
        rows = [r for r in TABLE.rows if r.run == name]
        plan = SimpleNamespace(
            rows={TABLE: rows}, can_run=lambda row: True, runs_of=lambda table, row: {0: run}
        )
        return collect(plan, TABLE).rows[0]

    return row


def test_a_run_that_is_not_finished_has_no_scores(row):
    assert row("mask_soft_teacher").scores == {metric: {} for metric in METRICS}


def test_the_teacher_counts_at_its_last_evaluation_with_its_masks(row):
    found = row(
        "mask_soft_teacher",
        line(10, teacher=(50.0, 45.0), student=(60.0, 55.0)),
        line(20, teacher=(40.0, 35.0), student=(30.0, 25.0)),
    )
    assert (found.scores["AP"], found.scores["mask AP"]) == ({0: 40.0}, {0: 35.0})
    assert found.scores["mask AP75"] == {0: 35.0} and found.other == {0: 30.0}


def test_a_baseline_counts_at_its_best_of_boxes_and_of_masks(row):
    nothing = line(5, teacher=(math.nan, math.nan))
    found = row(
        "mask_supervised",
        nothing,
        line(10, teacher=(50.0, 20.0), student=(30.0, 35.0)),
        line(20, teacher=(40.0, 30.0), student=(45.0, 25.0)),
    )
    assert (found.scores["AP"], found.scores["mask AP"]) == ({0: 50.0}, {0: 35.0})
    assert found.other == {}


def test_a_detector_without_masks_has_scores_of_boxes_alone(row):
    found = row("cascade_soft_teacher", line(10, teacher=(50.0,)))
    assert set(found.scores) == set(METRICS)
