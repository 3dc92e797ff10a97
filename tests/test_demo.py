"""The demo's bookkeeping, and the demo itself with a handful of steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training import CONFIGS, ROOT

sys.path.insert(0, str(ROOT / "tools"))

from demo_report import per_seed_table, summarize  # noqa: E402
from demo_runs import Run, clock, progress_line  # noqa: E402


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


@pytest.mark.usefixtures("tiny_digits")
class TestRun:
    @pytest.fixture
    def run(self, tmp_path):
        opts = ["SOLVER.MAX_ITER", "20", "SOFT_TEACHER.BURN_IN", "10"]
        return Run("soft_teacher", CONFIGS / "soft_teacher.yaml", tmp_path, 0, opts)

    def test_without_metrics_nothing_is_done(self, run):
        assert run.history() == {"student": [], "teacher": []}
        assert run.progress() == (0, 0)
        assert not run.finished

    def test_history_and_progress_come_from_the_metrics_file(self, run):
        run.folder.mkdir()
        lines = [
            {"iteration": 9, "total_loss": 1.0},
            {"iteration": 9, "student/bbox/AP": 3.0, "teacher/bbox/AP": 4.0},
            {"iteration": 19, "student/bbox/AP": 5.0, "teacher/bbox/AP": 6.0},
        ]
        (run.folder / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in lines[:2]))
        step, share = run.progress()
        assert step == 10
        assert 0 < share < 0.5, "the steps of the burn-in are the cheap ones"
        (run.folder / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert run.history()["teacher"] == [(10, {"AP": 4.0}), (20, {"AP": 6.0})]

    def test_an_evaluation_that_is_written_late_does_not_take_steps_back(self, run):
        run.folder.mkdir()
        lines = [{"iteration": 11, "total_loss": 1.0}, {"iteration": 9, "teacher/bbox/AP": 4.0}]
        (run.folder / "metrics.json").write_text("".join(json.dumps(x) + "\n" for x in lines))
        assert run.progress()[0] == 12
        assert run.history()["teacher"] == [(10, {"AP": 4.0})]

    def test_the_line_tells_step_ap_and_time_left(self, run):
        run.folder.mkdir()
        line = {"iteration": 9, "student/bbox/AP": 3.0, "teacher/bbox/AP": 4.0}
        (run.folder / "metrics.json").write_text(json.dumps(line) + "\n")
        text = progress_line([run], {run.name: 0.0}, elapsed=65)
        assert text.startswith("[1:05]  soft_teacher 10/20 (teacher AP 4.0)")
        assert text.endswith("left")

    def test_a_line_being_written_is_not_read(self, run):
        run.folder.mkdir()
        (run.folder / "metrics.json").write_text('{"iteration": 3}\n{"itera')
        assert run.metrics() == [{"iteration": 3}]

    def test_another_config_is_another_run(self, run, tmp_path):
        run.folder.mkdir()
        run._write("finished.json")
        assert run.finished
        opts = ["SOLVER.MAX_ITER", "21", "SOFT_TEACHER.BURN_IN", "10"]
        other = Run("soft_teacher", CONFIGS / "soft_teacher.yaml", tmp_path, 0, opts)
        assert not other.finished


def test_clock():
    assert [clock(s) for s in (0, 59.9, 61, 3600)] == ["0:00", "0:59", "1:01", "60:00"]


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
