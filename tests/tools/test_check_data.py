import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
YAML = ("configs/demo/soft_teacher.yaml", "KEY VALUE")
CONFIGS = {
    "yaml": [
        "configs/demo/soft_teacher.yaml",
        "DATASETS.TRAIN_UNLABELED",
        "('digits_fold1_unlabeled', 'digits_unlabeled')",
    ],
    "lazy": ["configs/demo/soft_teacher.py"],
}


def check_data(folder, config, *opts, flags=()):
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "check_data.py")]
    command += [*flags, "--output", str(folder), "--config-file", str(ROOT / config), *opts]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "projects"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_data_of_a_config_is_reported(config, tiny_digits, tmp_path):
    found = check_data(tmp_path, *CONFIGS[config])
    assert found.returncode == 0, found.stderr
    report = (tmp_path / "report.txt").read_text()
    assert report in found.stdout
    rows = [line.split() for line in report.splitlines()]
    images = {
        row[-1]: row[:2] for row in rows if row and row[0] in ("labeled", "unlabeled", "test")
    }
    assert images == {
        "digits_fold1_labeled": ["labeled", "4"],
        "digits_fold1_unlabeled": ["unlabeled", "8"],
        "digits_unlabeled": ["unlabeled", "6"],
        "digits_val": ["test", "4"],
    }
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert (tmp_path / "unreadable.txt").read_text() == ""


def test_unreadable_images_give_status_1_and_a_list(tiny_digits, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    photos = ["DATASETS.TRAIN_UNLABELED", str(tmp_path / "photos")]
    found = check_data(tmp_path / "out", CONFIGS["yaml"][0], *photos, flags=["--headers-only"])
    assert found.returncode == 1, found.stderr
    (line,) = (tmp_path / "out" / "unreadable.txt").read_text().splitlines()
    assert line.startswith(f"{tmp_path}/photos/cut.jpg: ")


def test_a_mistake_is_one_line_and_status_2(tiny_digits, tmp_path):
    found = check_data(tmp_path, CONFIGS["yaml"][0], "DATASETS.TRAIN_LABELED", "nowhere")
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith("error: DATASETS.TRAIN_LABELED names 'nowhere'")
    assert "Traceback" not in found.stderr
