import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soft_teacher.data.images import sizes as sizes_module
from soft_teacher.data.images.sizes import cache_folder, image_sizes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "soft_teacher"


@pytest.fixture
def save(tmp_path):
    def save(name, width, height, **options):
        path = tmp_path / name
        Image.new("RGB", (width, height)).save(path, **options)
        return str(path)

    return save


@pytest.fixture
def reads(monkeypatch):
    """The files whose headers are read."""
    read, found = sizes_module.image_size, []
    monkeypatch.setattr(sizes_module, "image_size", lambda f: (found.append(f), read(f))[1])
    return found


def test_no_images_have_no_sizes():
    assert image_sizes([]).shape == (0, 2)


def test_heights_and_widths_upright_and_none_of_unreadable_files(save, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "no.png").write_text("no image")
    files = [save("a.png", 5, 3), save("b.jpg", 7, 9, exif=exif), save("c.jpg", 4, 4)]
    files += [str(tmp_path / "no.png"), str(tmp_path / "gone.png")]
    np.testing.assert_array_equal(image_sizes(files), [(3, 5), (7, 9), (4, 4), (0, 0), (0, 0)])


def test_headers_are_read_once_until_a_file_changes(save, reads):
    files = [save("a.png", 5, 3), save("b.png", 7, 9)]
    image_sizes(files[:1])
    for _ in range(2):
        np.testing.assert_array_equal(image_sizes(files), [(3, 5), (9, 7)])
    assert reads == files
    save("a.png", 50, 30)
    os.utime(files[0], ns=(1, 1))
    np.testing.assert_array_equal(image_sizes(files), [(30, 50), (9, 7)])
    assert reads[2:] == files[:1]


@pytest.mark.parametrize("text", ["", "[", '{"a": '])
def test_a_broken_cache_is_made_again(text, save, cache):
    files = [save("a.png", 5, 3)]
    image_sizes(files)
    (written,) = cache.iterdir()
    written.write_text(text)
    np.testing.assert_array_equal(image_sizes(files), [(3, 5)])
    assert files[0] in json.loads(written.read_text())


def test_a_cache_that_cannot_be_written_is_done_without(save, tmp_path, monkeypatch, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    np.testing.assert_array_equal(image_sizes([save("a.png", 5, 3)]), [(3, 5)])
    assert "cannot be remembered" in caplog.text


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "soft_teacher"
