"""The event writer of Weights & Biases, with the package played by a fake."""

import sys

import numpy as np
import pytest
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
        with pytest.raises(ConfigError) as error:
            use()
        text = str(error.value)
        assert "\n" not in text and text.startswith("WandbWriter.project ")
        assert "pip install wandb" in text


def test_checking_begins_no_run(wandb):
    check_wandb("digits")
    assert wandb.runs == []


def test_a_run_that_cannot_be_begun_is_one_line_with_the_fix(wandb, tmp_path):
    wandb.error = RuntimeError("no\nAPI key")
    with pytest.raises(ConfigError) as error:
        writer(tmp_path)
    text = str(error.value)
    assert "\n" not in text and "'digits'" in text and "no API key" in text
    assert "wandb login" in text and "WANDB_MODE=offline" in text
    assert not (tmp_path / "wandb_id.txt").exists()


# --- the run


def test_a_run_begins_with_its_project_and_name(wandb, tmp_path):
    writer(tmp_path, name="fold 1")
    (run,) = wandb.runs
    assert run.settings == {
        "project": "digits", "name": "fold 1", "id": None, "resume": None, "dir": str(tmp_path),
    }  # fmt: skip
    writer(tmp_path)
    assert wandb.runs[1].settings["name"] is None


def test_a_resumed_training_goes_on_with_its_run(wandb, tmp_path):
    writer(tmp_path)
    writer(tmp_path, resume=True)
    writer(tmp_path, resume=True)
    assert [run.id for run in wandb.runs] == ["new0"] * 3
    assert wandb.runs[1].settings["resume"] == "allow"


def test_a_new_training_in_an_old_folder_is_a_new_run(wandb, tmp_path):
    writer(tmp_path)
    writer(tmp_path)
    writer(tmp_path, resume=True)
    assert [run.id for run in wandb.runs] == ["new0", "new1", "new1"]


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_an_id_resuming_begins_a_run(wandb, tmp_path, content):
    if content is not None:
        (tmp_path / "wandb_id.txt").write_text(content)
    writer(tmp_path, resume=True)
    assert wandb.runs[0].settings["id"] is None
    assert (tmp_path / "wandb_id.txt").read_text() == "new0\n"


def test_an_id_that_cannot_be_kept_is_no_end(wandb, tmp_path, caplog):
    (tmp_path / "wandb_id.txt").mkdir()
    writer(tmp_path)
    assert len(wandb.runs) == 1
    assert "wandb_id.txt" in caplog.text and "--resume will begin another run" in caplog.text


def test_a_closed_writer_finishes_the_run(wandb, tmp_path):
    writer(tmp_path).close()
    assert wandb.runs[0].finished


# --- what is sent


def test_nothing_is_sent_of_nothing(wandb, tmp_path, storage):
    writer(tmp_path).write()
    assert wandb.runs[0].lines == []


def test_scalars_are_sent_once_with_their_step(wandb, tmp_path, storage):
    found = writer(tmp_path)
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


@pytest.mark.parametrize("as_tensor", [False, True])
def test_pictures_are_sent_once_and_left_for_the_next_writer(wandb, tmp_path, storage, as_tensor):
    import torch

    found = writer(tmp_path)
    picture = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    storage.iter = 6
    storage.put_image("pseudo_boxes", torch.from_numpy(picture) if as_tensor else picture)
    storage.put_scalar("a", 1.0)
    found.write()
    found.write()
    (line,) = wandb.runs[0].lines
    assert (line["iteration"], line["a"]) == (6, 1.0)
    np.testing.assert_array_equal(line["pseudo_boxes"].array, picture.transpose(1, 2, 0))
    assert len(storage._vis_data) == 1


def test_two_pictures_of_one_step_are_both_sent(wandb, tmp_path, storage):
    found = writer(tmp_path)
    for name in ("one", "other"):
        storage.put_image(name, np.zeros((3, 2, 2), dtype=np.uint8))
    found.write()
    (line,) = wandb.runs[0].lines
    assert set(line) == {"one", "other", "iteration"}
