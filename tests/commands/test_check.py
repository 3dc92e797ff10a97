"""soft-teacher-check: from a config to a report of its data, and an exit status."""

import pytest
from training import CONFIGS

from soft_teacher.commands.check import main

YAML = str(CONFIGS / "soft_teacher.yaml")
UNLABELED = ["DATASETS.TRAIN_UNLABELED", "('digits_fold1_unlabeled', 'digits_unlabeled')"]


@pytest.fixture
def run(tiny_digits, own_catalog, tmp_path, capsys):
    """Runs the tool; returns its status, what it printed, and its last error line."""

    def run(config, *arguments, flags=()):
        status = main([*flags, "--output", str(tmp_path), "--config-file", config, *arguments])
        printed = capsys.readouterr()
        return status, printed.out, (printed.err.splitlines() or [""])[-1]

    return run


@pytest.mark.parametrize(
    "config", [[YAML, *UNLABELED], [str(CONFIGS / "soft_teacher.py")]], ids=["yaml", "lazy"]
)
def test_the_data_of_a_config_is_reported(config, run, tmp_path):
    status, printed, _ = run(*config)
    report = (tmp_path / "report.txt").read_text()
    assert status == 0 and report in printed
    rows = [line.split() for line in report.splitlines() if line]
    assert [(r[-1], r[0], r[1]) for r in rows if r[0] in ("labeled", "unlabeled", "test")] == [
        ("digits_fold1_labeled", "labeled", "4"),
        ("digits_fold1_unlabeled", "unlabeled", "8"),
        ("digits_unlabeled", "unlabeled", "6"),
        ("digits_val", "test", "4"),
    ]
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert (tmp_path / "unreadable.txt").read_text() == ""


def test_unreadable_images_give_status_1_and_a_list(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    photos = ["DATASETS.TRAIN_UNLABELED", str(tmp_path / "photos")]
    assert run(YAML, *photos, flags=["--headers-only"])[0] == 1
    (line,) = (tmp_path / "unreadable.txt").read_text().splitlines()
    assert line.startswith(f"{tmp_path}/photos/cut.jpg: ")


def test_a_mistake_is_one_line_and_status_2(run):
    status, _, error = run(YAML, "DATASETS.TRAIN_LABELED", "nowhere")
    assert status == 2 and error.startswith("error: DATASETS.TRAIN_LABELED names 'nowhere'")
