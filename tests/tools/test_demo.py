"""The demo's bookkeeping, and the demo itself with a handful of steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from demo import make_runs
from demo_report import per_seed_table, summarize
from training import ROOT


def evaluation(ap):
    return {"AP": ap, "AP50": 2 * ap, "AP75": ap / 2, "AP-one": 0.0}


class TestTable:
    def test_the_baseline_counts_at_its_best_and_soft_teacher_at_its_last(self):
        supervised = {
            "student": [(10, evaluation(30.0)), (20, evaluation(20.0))],
            "teacher": [(10, evaluation(25.0)), (20, evaluation(31.0))],
        }
        soft_teacher = {
            "student": [(10, evaluation(50.0)), (20, evaluation(40.0))],
            "teacher": [(10, evaluation(60.0)), (20, evaluation(45.0))],
        }
        rows = summarize(supervised, soft_teacher)
        assert {row: values["AP"] for row, values in rows.items()} == {
            "supervised": 31.0,
            "student": 40.0,
            "teacher": 45.0,
        }
        assert rows["teacher"] == {"AP": 45.0, "AP50": 90.0, "AP75": 22.5}

    def test_seeds_are_averaged_with_their_gains(self):
        def rows(*aps):
            return {
                r: evaluation(float(a)) for r, a in zip(("supervised", "student", "teacher"), aps)
            }

        table = per_seed_table({0: rows(10, 20, 30), 1: rows(20, 30, 32)}).splitlines()
        cells = [[c.strip() for c in line.strip("|").split("|")] for line in table]
        assert cells[2] == ["0", "10.0", "20.0", "30.0", "20.0"]
        assert cells[4] == ["mean", "15.0", "25.0", "31.0", "16.0"]


class TestRuns:
    def test_both_learn_from_the_fold_of_the_seed(self, tmp_path):
        supervised, soft_teacher = make_runs(2, tmp_path, ["SOLVER.MAX_ITER", "20"])
        for run in (supervised, soft_teacher):
            assert run.cfg.DATASETS.TRAIN_LABELED == ("digits_fold3_labeled",)
            assert run.cfg.SEED == 2
            assert run.cfg.SOLVER.MAX_ITER == 20
            assert run.folder == tmp_path / run.name
        assert supervised.cfg.DATASETS.TRAIN_UNLABELED == ()
        pools = ("digits_fold3_unlabeled", "digits_unlabeled")
        assert soft_teacher.cfg.DATASETS.TRAIN_UNLABELED == pools


@pytest.mark.long
def test_the_demo_from_data_to_pictures_and_again(tmp_path):
    steps = ["SOLVER.MAX_ITER", "4", "SOFT_TEACHER.BURN_IN", "2", "TEST.EVAL_PERIOD", "0"]
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path / "datasets")}

    def demo():
        done = subprocess.run(
            command + ["--opts", *steps], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "soft_teacher trains" in demo()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for row in ("supervised", "student", "teacher"):
        assert 0 <= results[row]["AP"] <= 100
    for picture in ("detections.png", "ap.png"):
        assert Path(tmp_path / "out" / "seed0" / picture).stat().st_size > 10_000
    assert "soft_teacher is reused" in demo()
