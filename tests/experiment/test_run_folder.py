"""OUTPUT_DIR before and while a training is in it."""

import os
from contextlib import contextmanager

import pytest
from detectron2.utils import comm

from soft_teacher import ConfigError
from soft_teacher.experiment.run_folder import run_folder

USED = ["last_checkpoint", "metrics.json", "model_final.pth", "model_0000004.pth"]


@contextmanager
def folder(path, *, resume=False, eval_only=False):
    with run_folder(str(path), key="KEY", resume=resume, eval_only=eval_only) as warnings:
        yield warnings


def refusal(path, **how) -> str:
    with pytest.raises(ConfigError) as error, folder(path, **how):
        pass
    text = str(error.value)
    assert "\n" not in text and text.startswith("KEY ")
    return text


def test_a_new_folder_is_made_and_nothing_is_said(tmp_path):
    with folder(tmp_path / "a" / "run") as warnings:
        assert warnings == [] and (tmp_path / "a" / "run").is_dir()


# --- one training at a time ---------------------------------------------------------------------


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_training_is_refused_while_the_first_is_there(resume, tmp_path):
    with folder(tmp_path):
        assert f"another process works there (pid {os.getpid()} on " in refusal(
            tmp_path, resume=resume
        )
    with folder(tmp_path, resume=resume):
        pass


def test_a_training_that_fails_frees_its_folder(tmp_path):
    with pytest.raises(KeyError), folder(tmp_path):
        raise KeyError
    with folder(tmp_path):
        pass


def test_an_evaluation_beside_a_training_is_welcome(tmp_path):
    with folder(tmp_path), folder(tmp_path, eval_only=True):
        pass
    with folder(tmp_path, eval_only=True), folder(tmp_path):
        pass


# --- and none over another ----------------------------------------------------------------------


@pytest.mark.parametrize("name", USED)
def test_a_used_folder_is_for_resuming_and_evaluating(name, tmp_path):
    (tmp_path / name).touch()
    text = refusal(tmp_path)
    assert f"({name})" in text and "--resume" in text and "name another" in text
    for how in ({"resume": True}, {"eval_only": True}):
        with folder(tmp_path, **how) as warnings:
            assert warnings == []


@pytest.mark.parametrize("name", ["config.yaml", "log.txt", "stdout.txt", "seed0/metrics.json"])
def test_other_files_are_no_training(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with folder(tmp_path):
        pass


def test_brackets_in_the_name_are_no_pattern(tmp_path):
    (tmp_path / "[ab]").mkdir()
    (tmp_path / "[ab]" / "metrics.json").touch()
    assert "already holds a run" in refusal(tmp_path / "[ab]")


# --- to be written ------------------------------------------------------------------------------


@pytest.mark.parametrize("eval_only", [False, True])
@pytest.mark.parametrize("name", ["", "file", "file/deep", "nul\0", "run.log", "run.txt"])
def test_a_folder_that_cannot_be_used_is_one_line(name, eval_only, tmp_path):
    (tmp_path / "file").touch()
    text = refusal(os.path.join(tmp_path, name) if name else "", eval_only=eval_only)
    assert text.endswith(("name another", "choose another", "name one"))


@pytest.mark.parametrize("name", ["config.yaml", "log.txt", "metrics.json"])
def test_a_folder_in_the_place_of_a_file_is_one_line(name, tmp_path):
    (tmp_path / name).mkdir()
    assert f"{name}': Is a directory" in refusal(tmp_path, resume=True)


# --- temporary files ----------------------------------------------------------------------------


@pytest.fixture
def leftovers(tmp_path):
    """Of a killed process of another host, where it may have been, and where it may not."""
    found = [f"{place}a.pth.7@elsewhere.tmp" for place in ("", "nonfinite/", "inference/a/b/")]
    for name in [*found, "other_run/a.pth.7@elsewhere.tmp", "notes.tmp"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return [tmp_path / name for name in found]


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_removes_those_of_dead_ones_in_its_own_folders(resume, leftovers, tmp_path):
    with folder(tmp_path, resume=resume):
        left = {path.name for path in tmp_path.rglob("*.tmp")}
        assert left == {"a.pth.7@elsewhere.tmp", "notes.tmp"}
        assert not any(path.exists() for path in leftovers)


def test_an_evaluation_removes_none(leftovers, tmp_path):
    with folder(tmp_path, eval_only=True):
        assert all(path.exists() for path in leftovers)


def test_who_cannot_lock_removes_none_of_other_hosts(leftovers, tmp_path, monkeypatch):
    def flock(*args):
        raise OSError("no locks")

    monkeypatch.setattr("fcntl.flock", flock)
    with folder(tmp_path) as warnings:
        assert len(warnings) == 1 and all(path.exists() for path in leftovers)


# --- several ranks ------------------------------------------------------------------------------


def test_all_ranks_refuse_what_one_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, None, "KEY 'b': no", "KEY 'c': no"])
    assert refusal(tmp_path) == "KEY 'b': no"
    monkeypatch.undo()
    with folder(tmp_path):  # it is free again
        pass


def test_other_ranks_need_the_folder_and_do_not_hold_it(tmp_path, monkeypatch):
    (tmp_path / "metrics.json").touch()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    with folder(tmp_path), folder(tmp_path):
        pass
    assert "Not a directory" in refusal(tmp_path / "metrics.json" / "x")
