import io
from types import SimpleNamespace

import pytest

from soft_teacher.atomic import AtomicPathManager, atomic_write


def test_nothing_written_is_an_empty_file(tmp_path):
    with atomic_write(str(tmp_path / "a.txt")):
        pass
    assert (tmp_path / "a.txt").read_text() == ""


@pytest.mark.parametrize("mode, content", [("w", "new"), ("wb", b"new")])
def test_the_file_takes_its_name_when_it_is_whole(mode, content, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with atomic_write(str(path), mode) as file:
        file.write(content)
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(error, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error)):
        with atomic_write(str(path)) as file:
            file.write("half")
            raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


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
