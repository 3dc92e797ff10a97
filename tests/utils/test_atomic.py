import io
import os
import socket
import subprocess
from types import SimpleNamespace

import pytest
import torch
from full_disk import full_disk

from soft_teacher.utils.atomic import (
    AtomicPathManager,
    atomic_path,
    atomic_write,
    remove_temporary,
)

HOST = socket.gethostname()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("mode, content", [("w", ""), ("w", "new"), ("wb", b"new")])
def test_the_file_takes_its_name_when_it_is_complete(mode, content, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with atomic_write(str(path), mode) as file:
        file.write(content)
        file.flush()
        assert path.read_text() == "old"
    assert path.read_bytes() == (content.encode() if mode == "w" else content)
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "error", [OSError("No space left on device"), KeyboardInterrupt("stop"), RuntimeError("a bug")]
)
def test_an_error_leaves_the_previous_file_and_is_raised(error, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error), match=str(error)):
        with atomic_write(str(path)) as file:
            file.write("half")
            raise error
    assert path.read_text() == "old" and left(tmp_path) == ["a"]


def test_a_full_disk_is_an_os_error_also_where_torch_hides_it(tmp_path):
    with pytest.raises(OSError, match="File too large"):
        with full_disk(1000), atomic_write(str(tmp_path / "a"), "wb") as file:
            torch.save(torch.zeros(10**5), file)
    assert left(tmp_path) == []


def test_a_path_manager_reads_and_finds_as_before_and_writes_atomically(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    opened = []

    def usual(path, mode="r", **kwargs):
        opened.append((path, mode))
        return io.StringIO("remote") if "://" in path else open(path, mode)

    manager = AtomicPathManager(SimpleNamespace(open=usual, exists=lambda p: p == "a"))
    assert manager.exists("a")
    with manager.open(str(path)) as file:
        assert file.read() == "old"
    manager.open("s3://bucket/a", "w")
    assert opened == [(str(path), "r"), ("s3://bucket/a", "w")]
    with manager.open(str(path), "w") as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and len(opened) == 2


# --- what killed processes leave ----------------------------------------------------------------


@pytest.fixture
def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def touch(folder, *names):
    for name in names:
        (folder / name).touch()
    return sorted(names)


def test_a_missing_or_empty_folder_is_accepted(tmp_path):
    remove_temporary(str(tmp_path / "gone"))
    remove_temporary(str(tmp_path))
    assert left(tmp_path) == []


def test_a_write_removes_what_dead_processes_left_of_the_same_file(dead_pid, tmp_path):
    touch(tmp_path, f"a.{dead_pid}@{HOST}.tmp", f"a.{10**30}@{HOST}.tmp")
    kept = touch(tmp_path, f"b.{dead_pid}@{HOST}.tmp", f"a.{os.getppid()}@{HOST}.tmp")
    with atomic_write(str(tmp_path / "a")):
        pass
    assert left(tmp_path) == sorted(["a", *kept])


def test_of_all_files_too(dead_pid, tmp_path):
    touch(tmp_path, f"a.{dead_pid}@{HOST}.tmp", f"b.pth.{os.getpid()}@{HOST}.tmp")
    kept = touch(
        tmp_path, f"a.{os.getppid()}@{HOST}.tmp", "notes.tmp", "5.tmp", "a.5", f"a.5@{HOST}"
    )
    remove_temporary(str(tmp_path))
    assert left(tmp_path) == kept


@pytest.mark.parametrize("alone", [False, True])
def test_those_of_other_hosts_go_if_nobody_else_writes(alone, tmp_path):
    touched = touch(tmp_path, "a.7@elsewhere.tmp", f"a.{os.getpid()}@else.where.tmp", "a.7.tmp")
    kept = touch(tmp_path, f"a.{os.getppid()}@{HOST}.tmp")
    remove_temporary(str(tmp_path), alone=alone)
    assert left(tmp_path) == sorted(kept if alone else [*kept, *touched])


# --- paths ---------------------------------------------------------------------------------------


def make_folder(path):
    os.mkdir(path)
    with open(os.path.join(path, "in it"), "w") as file:
        file.write("new")


def make_file(path):
    with open(path, "w") as file:
        file.write("new")


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_a_path_takes_its_name_when_the_block_ends(make, tmp_path):
    with atomic_path(str(tmp_path / "a")) as path:
        make(path)
        assert not (tmp_path / "a").exists()
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("make", [make_folder, make_file])
def test_nothing_is_left_of_a_path_after_an_error(make, tmp_path):
    with pytest.raises(ValueError), atomic_path(str(tmp_path / "a")) as path:
        make(path)
        raise ValueError
    assert left(tmp_path) == []


def test_a_file_is_replaced_and_a_full_folder_is_not(tmp_path):
    (tmp_path / "file").write_text("old")
    with atomic_path(str(tmp_path / "file")) as path:
        make_file(path)
    assert (tmp_path / "file").read_text() == "new"
    make_folder(tmp_path / "folder")
    with pytest.raises(OSError), atomic_path(f"{tmp_path / 'folder'}/") as path:
        make_folder(path)
    assert left(tmp_path) == ["file", "folder"]


def test_a_folder_that_a_killed_process_left_is_removed(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    make_folder(tmp_path / f"a.{dead.pid}@{HOST}.tmp")
    with atomic_path(str(tmp_path / "a")) as path:
        make_folder(path)
    assert left(tmp_path) == ["a"]
