"""The event writer of Weights & Biases, with a fake package."""

import sys

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from fake_wandb import FakeWandb

from soft_teacher import ConfigError
from soft_teacher.monitoring.wandb_writer import WandbWriter, check_wandb


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


@pytest.fixture
def no_wandb(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # import then fails


@pytest.fixture
def storage():
    with EventStorage() as storage:
        yield storage


def writer(folder, **options):
    return WandbWriter(str(folder), **{"project": "digits", **options})


# --- only where it is asked for


def test_without_a_project_the_package_is_not_needed(no_wandb):
    check_wandb("")


def test_a_missing_package_is_one_line_with_the_fix(no_wandb, tmp_path):
    for use in (lambda: check_wandb("digits"), lambda: writer(tmp_path)):
        with pytest.raises(ConfigError, match=r"^WandbWriter\.project .*pip install wandb.*\Z"):
            use()


def test_checking_starts_no_run(wandb):
    check_wandb("digits")
    assert wandb.runs == []


def test_a_run_that_cannot_be_started_is_one_line_with_the_fix(wandb, tmp_path):
    wandb.error = RuntimeError("no\nAPI key")
    said = r"'digits'.*no API key.*wandb login.*WANDB_MODE=offline.*\Z"
    with pytest.raises(ConfigError, match=said):
        writer(tmp_path)
    assert not (tmp_path / "wandb_id.txt").exists()


# --- the run


def test_a_run_starts_with_its_project_and_name(wandb, tmp_path):
    writer(tmp_path, name="fold 1")
    (run,) = wandb.runs
    assert run.settings == {
        "project": "digits", "name": "fold 1", "id": None, "resume": None, "dir": str(tmp_path),
    }  # fmt: skip
    writer(tmp_path)
    assert wandb.runs[1].settings["name"] is None


def test_a_resumed_run_is_the_last_one_of_the_folder(wandb, tmp_path):
    for resume in (False, True, False, True, True):
        writer(tmp_path, resume=resume)
    assert [run.id for run in wandb.runs] == ["new0", "new0", "new2", "new2", "new2"]
    resumed = [run.settings["resume"] for run in wandb.runs]
    assert resumed == [None, "allow", None, "allow", "allow"]


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_an_id_resuming_starts_a_run(wandb, tmp_path, content):
    if content is not None:
        (tmp_path / "wandb_id.txt").write_text(content)
    writer(tmp_path, resume=True)
    assert wandb.runs[0].settings["id"] is None
    assert (tmp_path / "wandb_id.txt").read_text() == "new0\n"


def test_an_id_that_cannot_be_kept_is_logged(wandb, tmp_path, caplog):
    (tmp_path / "wandb_id.txt").mkdir()
    writer(tmp_path)
    assert len(wandb.runs) == 1
    assert "wandb_id.txt" in caplog.text and "--resume will start another run" in caplog.text


def test_a_closed_writer_finishes_the_run(wandb, tmp_path):
    writer(tmp_path).close()
    assert wandb.runs[0].finished


# --- what is sent


def test_scalars_are_sent_once_with_their_step(wandb, tmp_path, storage):
    found = writer(tmp_path)
    found.write()
    assert wandb.runs[0].lines == []
    storage.put_scalar("a", 1.0, cur_iter=4)
    storage.put_scalar("b", 2.0, smoothing_hint=False, cur_iter=3)
    found.write()
    found.write()
    storage.put_scalar("b", 5.0, smoothing_hint=False, cur_iter=7)
    found.write()
    assert wandb.runs[0].lines == [
        {"b": 2.0, "iteration": 3},
        {"a": 1.0, "iteration": 4},
        {"b": 5.0, "iteration": 7},
    ]


def test_scalars_are_smoothed_where_detectron2_smooths(wandb, tmp_path, storage):
    found = writer(tmp_path, window_size=3)
    for step, value in enumerate([9.0, 1.0, 2.0, 6.0]):
        storage.iter = step
        storage.put_scalar("noisy", value)
        storage.put_scalar("exact", value, smoothing_hint=False)
    found.write()
    assert wandb.runs[0].lines == [{"noisy": 2.0, "exact": 6.0, "iteration": 3}]


def test_steps_may_be_repeated_after_a_resume(wandb, tmp_path):
    """The package's own step counter would drop them: ours is a metric like any other."""
    writer(tmp_path)
    assert wandb.runs[0].metrics == [("iteration", {}), ("*", {"step_metric": "iteration"})]


def test_pictures_are_sent_once_and_left_for_the_next_writer(wandb, tmp_path, storage):
    found = writer(tmp_path)
    picture = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    storage.iter = 6
    storage.put_image("array", picture)
    storage.put_image("tensor", torch.from_numpy(picture))
    storage.put_scalar("a", 1.0)
    found.write()
    found.write()
    (line,) = wandb.runs[0].lines
    assert (line["iteration"], line["a"], len(line)) == (6, 1.0, 4)
    for name in ("array", "tensor"):
        np.testing.assert_array_equal(line[name].array, picture.transpose(1, 2, 0))
    assert len(storage._vis_data) == 2
