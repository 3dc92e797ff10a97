"""The demo's bookkeeping; the demo itself is run by tests/test_packaging.py."""

import json

from soft_teacher.commands.demo import make_runs
from soft_teacher.demo.report import ROWS, report, summarize


def evaluation(ap):
    return {"AP": ap, "AP50": 2 * ap, "AP75": ap / 2, "AP-one": 0.0}


def test_the_baseline_counts_at_its_best_and_soft_teacher_at_its_last():
    supervised = {
        "student": [(10, evaluation(30.0)), (20, evaluation(20.0))],
        "teacher": [(10, evaluation(25.0)), (20, evaluation(31.0))],
    }
    soft_teacher = {
        "student": [(10, evaluation(50.0)), (20, evaluation(40.0))],
        "teacher": [(10, evaluation(60.0)), (20, evaluation(45.0))],
    }
    rows = summarize(supervised, soft_teacher)
    ap = {row: values["AP"] for row, values in rows.items()}
    assert ap == {"supervised": 31.0, "student": 40.0, "teacher": 45.0}
    assert rows["teacher"] == {"AP": 45.0, "AP50": 90.0, "AP75": 22.5}


def test_seeds_are_averaged_with_their_gains(tmp_path, capsys):
    aps = {0: (10.0, 20.0, 30.0), 1: (20.0, 30.0, 32.0)}
    results = {s: dict(zip(ROWS, map(evaluation, values))) for s, values in aps.items()}
    report(results, tmp_path)
    lines = (tmp_path / "seeds.md").read_text().splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[2] == ["0", "10.0", "20.0", "30.0", "20.0"]
    assert cells[4] == ["mean", "15.0", "25.0", "31.0", "16.0"]
    saved = json.loads((tmp_path / "results.json").read_text())
    assert saved["teacher"] == {"AP": 31.0, "AP50": 62.0, "AP75": 15.5}
    assert saved["seeds"]["1"]["student"]["AP"] == 30.0
    assert "| teacher    | 31.0 |   62.0 |   15.5 |" in capsys.readouterr().out


def test_both_runs_learn_from_the_fold_of_the_seed(tmp_path):
    supervised, soft_teacher = make_runs(2, tmp_path, ["SOLVER.MAX_ITER", "20"])
    for run in (supervised, soft_teacher):
        assert run.cfg.DATASETS.TRAIN_LABELED == ("digits_fold3_labeled",)
        assert (run.cfg.SEED, run.cfg.SOLVER.MAX_ITER) == (2, 20)
        assert run.folder == tmp_path / run.name
    assert supervised.cfg.DATASETS.TRAIN_UNLABELED == ()
    pools = ("digits_fold3_unlabeled", "digits_unlabeled")
    assert soft_teacher.cfg.DATASETS.TRAIN_UNLABELED == pools
