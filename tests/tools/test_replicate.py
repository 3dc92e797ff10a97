"""tools/replicate.py: its errors, its plan, and a table from data to documentation."""

import csv
import os
import subprocess
import sys

import pytest
import replicate
from training import ROOT

from soft_teacher.model_zoo import get_config_file


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "required: TABLE"),
        (["12"], "error: there is no table '12'"),
        (["5"], "error: Table 5 cannot be run on digits"),
        (["masks"], "error: Masks and cascades cannot be run on digits"),
        (
            ["5", "--dataset", "coco", "--rows", "HTC++ multi-scale"],
            "the single-scale row's weights, evaluated as docs/coco.md says",
        ),
        (["8", "--rows", "BG"], "error: Table 8 has none of the rows BG"),
        (["3", "--dataset", "coco"], "error: COCO is missing"),
        (["3", "--dataset", "coco", "--seeds", "9"], "error: --seeds 9"),
        (["7", "--jobs", "0"], "argument --jobs: '0' must be a whole number"),
        (["7", "--num-gpus", "none"], "argument --num-gpus: 'none' must be a whole number"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_reported_with_status_2(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    try:
        status = replicate.main([*argv, "--output", str(tmp_path / "replication")])
    except SystemExit as stop:  # argparse's own
        status = stop.code
    assert status == 2 and message in capsys.readouterr().err.splitlines()[-1]


def test_a_dry_run_prints_the_commands_and_trains_nothing(tmp_path, capsys):
    argv = ["8", "--dataset", "coco", "--num-gpus", "8", "--rows", "BG-S", "--dry-run"]
    assert replicate.main([*argv, "--output", str(tmp_path / "replication")]) == 0
    folder = tmp_path / "replication" / "coco" / "paper" / "indicator_bg_student" / "seed0"
    config = get_config_file("coco/paper/soft_teacher_R_50_FPN_partial_180k.yaml")
    assert capsys.readouterr().out.strip().split("\n") == [
        "# indicator_bg_student/seed0: 0 of 180000 steps, 0:00 so far",
        f"python -m soft_teacher.commands.train --config-file {config} --num-gpus 8 --resume "
        "SEED 0 "
        "DATASETS.SPLIT.PERCENT 10.0 DATASETS.SPLIT.FOLD 1 SOFT_TEACHER.JITTER.ENABLED False "
        f"SOFT_TEACHER.INDICATOR bg_student OUTPUT_DIR {folder}",
        "",
        "1 runs, 1 to train, 0:00 so far",
    ]
    assert not (tmp_path / "replication").exists()


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_table_from_data_to_pages_and_again(tmp_path):
    """Table 6 without its last row, in two steps each: a first stage that labels for a second."""
    command = [sys.executable, str(ROOT / "tools" / "replicate.py"), "6", "--seeds", "0"]
    command += ["--rows", "Supervised", "Multi-Stage", "E2E"]
    command += ["--output", str(tmp_path / "replication"), "--opts", "SOLVER.MAX_ITER", "2"]
    command += ["SOFT_TEACHER.SCORE_THRESH", "0.06", "INPUT.MIN_SIZE_TEST", "48"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path / "datasets")}

    def replicate_table():
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "multi_stage/seed0 is finished" in replicate_table()
    folder = tmp_path / "replication" / "digits"
    lines = list(csv.DictReader((folder / "table6.csv").open()))
    measured = {line["row"]: line["mean"] for line in lines if line["metric"] == "AP"}
    assert all(0 <= float(ap) <= 100 for ap in measured.values())
    assert list(measured) == ["Supervised", "Multi-Stage", "E2E"]
    assert (folder / "multi_stage" / "seed0" / "labels.json").is_file()
    assert "Table 6" in (folder / "tables.md").read_text()
    before = (folder / "multi_stage" / "seed0" / "record.json").read_text()
    assert "multi_stage/seed0 is reused" in replicate_table()
    assert (folder / "multi_stage" / "seed0" / "record.json").read_text() == before
