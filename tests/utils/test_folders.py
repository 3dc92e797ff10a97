import errno
import fcntl
import os
import socket

import pytest
import torch
from full_disk import full_disk

from soft_teacher import ConfigError, TrainingError
from soft_teacher.utils.folders import check_writable, held, make_folder, room_for_results

ME = f"pid {os.getpid()} on {socket.gethostname()}"


def refusal(act, *args) -> str:
    with pytest.raises(ConfigError) as error:
        act(*args)
    text = str(error.value)
    assert "\n" not in text and text.startswith("KEY ")
    return text


# --- making -------------------------------------------------------------------------------------


def test_a_folder_is_made_with_its_parents_and_stays_empty(tmp_path):
    for _ in range(2):
        make_folder(str(tmp_path / "a" / "b"), "KEY")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("path", ["", None, 5])
def test_what_names_no_folder_is_refused(path):
    assert refusal(make_folder, path, "KEY") == f"KEY is {path!r}, which is not a folder: name one"


@pytest.mark.parametrize(
    "path, reason",
    [
        ("file", "File exists"),
        ("file/deep", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "embedded null byte"),
        ("half\ud800", "surrogates not allowed"),
        ("line\nbreak/" + "x" * 300, "File name too long"),
        ("/proc/no/such", "No such file or directory"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line(path, reason, tmp_path):
    (tmp_path / "file").touch()
    text = refusal(make_folder, os.path.join(tmp_path, path), "KEY")
    assert reason in text and text.endswith("; name another")


def test_a_folder_without_room_is_refused(tmp_path):
    with full_disk(1000):
        assert "File too large; name another" in refusal(make_folder, tmp_path, "KEY")


def test_a_file_is_writable_missing_or_in_the_way(tmp_path):
    check_writable(str(tmp_path / "missing"), "KEY")
    (tmp_path / "file").write_text("as it was")
    check_writable(str(tmp_path / "file"), "KEY")
    assert (tmp_path / "file").read_text() == "as it was"
    (tmp_path / "folder").mkdir()
    text = refusal(check_writable, str(tmp_path / "folder"), "KEY")
    assert "folder': Is a directory; name another" in text
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


# --- locking ------------------------------------------------------------------------------------


def hold(folder) -> list:
    with held(folder, "KEY") as warnings:
        return warnings


def test_a_folder_is_for_one_process_which_is_named(tmp_path):
    with held(tmp_path, "KEY") as warnings:
        assert warnings == []
        text = refusal(hold, tmp_path)
        assert f"another process works there ({ME}); wait for it, or name another" in text
    assert hold(tmp_path) == []


@pytest.mark.parametrize("left", [b"", b"pid 1 on mars\n" * 9, b"\xff\n"])
def test_what_an_earlier_process_left_in_the_lock_does_not_matter(left, tmp_path):
    (tmp_path / ".lock").write_bytes(left)
    with held(tmp_path, "KEY"):
        assert f"({ME})" in refusal(hold, tmp_path)


def test_the_lock_ends_although_a_forked_child_goes_on(tmp_path):
    here, there = socket.socketpair()
    with here, there:
        with held(tmp_path, "KEY"):
            if not (child := os.fork()):
                there.send(b"started")
                there.recv(1)
                os._exit(0)
            here.recv(7)
        try:
            assert hold(tmp_path) == []
        finally:
            here.send(b"x")
            os.waitpid(child, 0)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    (warning,) = hold(tmp_path)
    assert warning.startswith("KEY ") and "cannot be locked (No locks available)" in warning


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()
    assert "Is a directory" in refusal(hold, tmp_path)


# --- results ------------------------------------------------------------------------------------


def test_results_without_room_are_one_line_with_the_folder(tmp_path):
    """torch.save hides the system's error in a RuntimeError."""
    with room_for_results(str(tmp_path)):
        pass
    with pytest.raises(TrainingError, match=rf"'{tmp_path}': no space left; make room there\Z"):
        with full_disk(1000), room_for_results(str(tmp_path)):
            with open(tmp_path / "a.pth", "wb") as file:
                torch.save(torch.zeros(10**5), file)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no image"), KeyError("a bug")])
def test_other_failures_of_an_evaluation_are_raised(error):
    with pytest.raises(type(error)) as raised, room_for_results("out"):
        raise error
    assert raised.value is error
