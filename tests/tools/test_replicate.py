"""tools/replicate.py: its errors, its plan, and a table from data to documentation."""

import csv
import os
import subprocess
import sys

import pytest
import replicate
from training import ROOT

TOOL = ROOT / "tools" / "replicate.py"


class TestErrors:
    @pytest.mark.parametrize(
        "argv, message",
        [
            (["12"], "error: there is no table '12'"),
            (["5"], "error: Table 5 cannot be run on digits"),
            (["5", "--dataset", "coco", "--rows", "HTC++"], "HTC++ is not implemented"),
            (["8", "--rows", "BG"], "error: Table 8 has none of the rows BG"),
            (["3", "--dataset", "coco"], "error: COCO is not there"),
            (["3", "--dataset", "coco", "--seeds", "9"], "error: --seeds 9"),
        ],
        ids=" ".join,
    )
    def test_a_mistake_is_told_in_one_line(self, argv, message, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        assert replicate.main([*argv, "--output", str(tmp_path / "replication")]) == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1

    @pytest.mark.parametrize("argv", [["7", "--jobs", "0"], ["7", "--num-gpus", "none"], []])
    def test_arguments_that_make_no_sense_are_refused(self, argv):
        with pytest.raises(SystemExit) as stop:
            replicate.main(argv)
        assert stop.value.code == 2


class TestDryRun:
    def test_it_prints_the_commands_and_trains_nothing(self, tmp_path, capsys):
        argv = ["8", "--dataset", "coco", "--num-gpus", "8", "--rows", "BG-S", "--dry-run"]
        assert replicate.main([*argv, "--output", str(tmp_path / "replication")]) == 0
        printed = capsys.readouterr().out.strip().split("\n")
        folder = tmp_path / "replication" / "coco" / "paper" / "indicator_bg_student" / "seed0"
        config = ROOT / "configs/coco/paper/soft_teacher_R_50_FPN_partial_180k.yaml"
        assert printed == [
            "# indicator_bg_student/seed0: 0 of 180000 steps, 0:00 so far",
            f"python {ROOT / 'train_net.py'} --config-file {config} --num-gpus 8 --resume SEED 0 "
            "DATASETS.SPLIT.PERCENT 10.0 DATASETS.SPLIT.FOLD 1 SOFT_TEACHER.JITTER.ENABLED False "
            f"SOFT_TEACHER.INDICATOR bg_student OUTPUT_DIR {folder}",
            "",
            "1 runs, 1 to train, 0:00 so far",
        ]
        assert not (tmp_path / "replication").exists()

    def test_all_tables_of_the_paper_have_a_plan(self, tmp_path, capsys):
        argv = ["fig1", "3", "4", "5", "6", "7", "8", "9", "10", "11", "--dataset", "coco"]
        assert replicate.main([*argv, "--dry-run", "--output", str(tmp_path)]) == 0
        assert capsys.readouterr().out.strip().endswith("50 runs, 50 to train, 0:00 so far")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_table_from_data_to_pages_and_again(tmp_path):
    """Table 6 without its last row, in two steps each: a first stage that labels for a second."""
    command = [sys.executable, str(TOOL), "6", "--rows", "Supervised", "Multi-Stage", "E2E"]
    command += ["--seeds", "0", "--output", str(tmp_path / "replication")]
    steps = ["SOLVER.MAX_ITER", "2", "SOFT_TEACHER.SCORE_THRESH", "0.06"]
    steps += ["INPUT.MIN_SIZE_TEST", "48"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path / "datasets")}

    def replicate_table():
        done = subprocess.run(
            [*command, "--opts", *steps], env=environment, capture_output=True, text=True
        )
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
