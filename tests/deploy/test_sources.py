"""Files to predict on, and their names."""

import os

import pytest

from soft_teacher import ConfigError
from soft_teacher.deploy.sources import find_sources


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b/one.jpg", "b/one.png", "b/c/two.JPG", "clip.mp4", "b/notes.pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("b/one.png\n# a comment\nb/c/two.JPG\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "paths, files, root",
    [
        (["b/one.jpg"], ["b/one.jpg"], "b"),
        (["b"], ["b/c/two.JPG", "b/one.jpg", "b/one.png"], "b"),
        (["b/**/*.[jJ]*"], ["b/c/two.JPG", "b/one.jpg"], "b"),
        (["list.txt"], ["b/one.png", "b/c/two.JPG"], "b"),
        (["b/c", "b/one.jpg", "b"], ["b/c/two.JPG", "b/one.jpg", "b/one.png"], "b"),
        (["clip.mp4"], ["clip.mp4"], "."),
    ],
)
def test_files_and_the_folder_that_they_are_in(folder, paths, files, root):
    found = find_sources(paths)
    assert found.files == [str(folder / file) for file in files]
    assert found.root == os.path.normpath(folder / root)
    assert found.are_videos == (paths == ["clip.mp4"])


def test_what_was_left_out_is_told(folder):
    assert find_sources(["b"]).notes == ["3 images are taken, left out are 1 other files (.pdf)"]


@pytest.mark.parametrize(
    "paths, message",
    [
        (["nowhere"], "--source 'nowhere' does not exist"),
        (["none/*.jpg"], "--source 'none/*.jpg' has no images"),
        (["nowhere.txt"], "--source 'nowhere.txt' does not exist"),
        (["clip.mp4", "b"], "--source names images and videos"),
    ],
)
def test_a_mistake_is_one_line(folder, paths, message):
    with pytest.raises(ConfigError) as error:
        find_sources(paths)
    assert str(error.value).startswith(message)


def test_an_empty_folder_is_a_mistake(tmp_path):
    (tmp_path / "notes.pdf").touch()
    with pytest.raises(ConfigError, match=r"has no images: 0 images are taken, left out are 1"):
        find_sources([str(tmp_path)])


def test_no_two_files_have_one_name(folder):
    found = find_sources(["b"])
    assert list(found.names({}).values()) == ["c/two", "one", "one_png"]


def test_names_that_are_known_stay(folder):
    found = find_sources(["b"])
    png = str(folder / "b/one.png")
    assert list(found.names({png: "one"}).values()) == ["c/two", "one_jpg", "one"]
