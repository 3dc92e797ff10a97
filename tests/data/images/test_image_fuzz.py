"""Damaged image files of every kind: refused in one line, or an image of the header's size."""

import io

import cv2
import numpy as np
import pytest
from damage import fuzzed
from PIL import Image

from soft_teacher.data.images.image import IMAGE_SUFFIXES, UnreadableImage, image_size, read_image

# (suffix, mode, options of Pillow): all suffixes, and the kinds within them that differ.
KINDS = [
    ("jpg", "RGB", dict(quality=80)),
    ("jpeg", "L", dict(quality=80, progressive=True)),
    ("jpg", "CMYK", dict(quality=80)),
    ("png", "RGB", {}),
    ("png", "RGBA", {}),
    ("png", "P", {}),
    ("png", "1", {}),
    ("tif", "RGB", {}),
    ("tiff", "RGB", dict(compression="tiff_lzw")),
    ("tif", "L", dict(compression="tiff_adobe_deflate")),
    ("tif", "RGB", dict(compression="jpeg")),
    ("bmp", "RGB", {}),
    ("bmp", "P", {}),
    ("webp", "RGB", {}),
    ("webp", "RGBA", dict(lossless=True)),
    ("gif", "P", {}),
    ("avif", "RGB", dict(speed=10)),
    ("jp2", "RGB", {}),
    ("ppm", "RGB", {}),
    ("pgm", "L", {}),
    ("pnm", "RGB", {}),
]
# A file that promises more is refused before it costs anything.
MOST = 4_000_000


@pytest.fixture(scope="module")
def whole():
    """The bytes of a file of each kind; every other one has EXIF data that turn it."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    photo = Image.fromarray(cv2.resize(noise, (61, 43), interpolation=cv2.INTER_CUBIC))
    exif = Image.Exif()
    exif[274] = 6
    found = []
    for number, (suffix, mode, options) in enumerate(KINDS):
        file = io.BytesIO()
        kind = Image.registered_extensions()[f".{suffix}"]
        turned = {"exif": exif} if number % 2 and kind in ("JPEG", "PNG", "WEBP", "AVIF") else {}
        photo.convert(mode).save(file, kind, **options, **turned)
        found.append(file.getvalue())
    return found


def flipped(data, rng):
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def flipped_in_the_header(data, rng):
    data[rng.integers(min(len(data), 200))] ^= 1 << int(rng.integers(8))


def zeroed(data, rng):
    start = rng.integers(len(data))
    data[start : start + 64] = bytes(len(data[start : start + 64]))


def cut(data, rng):
    del data[rng.integers(len(data)) :]


def garbage(data, rng):
    """Everything after a start that is in order."""
    start = rng.integers(min(len(data), 400))
    data[start:] = rng.bytes(len(data) - start)


def hole(data, rng):
    start = rng.integers(len(data))
    del data[start : start + rng.integers(1, 40)]


def enormous(data, rng):
    """Large numbers somewhere in the header, where sizes may be."""
    start = rng.integers(4, min(len(data), 250))
    number = rng.choice([b"\x7f\xff", b"\xff\x7f", b"\xff\xff", b"\x7f\xff\xff\xff", b"99999"])
    data[start : start + len(number)] = number


DAMAGE = (flipped, flipped_in_the_header, zeroed, cut, garbage, hole, enormous)


def check(data: bytes, original: bytes, suffix: str, folder) -> bool:
    """Reads a file that may be damaged; returns whether it can be read."""
    path = folder / f"image.{suffix}"
    path.write_bytes(data)
    try:
        found = read_image(str(path), max_pixels=MOST)
    except UnreadableImage as error:
        text = str(error)
        assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 600
        return False
    assert found.dtype == np.uint8 and found.shape[2:] == (3,) and found.size <= 3 * MOST
    assert found.shape[:2] == image_size(str(path))
    if original.startswith(b"\x89PNG") and data.startswith(b"\x89PNG"):
        path.write_bytes(original)
        np.testing.assert_array_equal(found, read_image(str(path)))
    return True


def test_every_suffix_has_its_kind():
    assert {f".{suffix}" for suffix, *_ in KINDS} == IMAGE_SUFFIXES


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_whole_files_are_read_whatever_their_name_says(number, whole, tmp_path):
    for suffix in (KINDS[number][0], "png", "jpg"):
        assert check(whole[number], whole[number], suffix, tmp_path)


@fuzzed(420, 6300)
def test_damaged_files(whole, tmp_path, seeds):
    read, suffixes = 0, sorted(IMAGE_SUFFIXES)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        original = whole[seed % len(whole)]
        data = bytearray(original)
        for _ in range(rng.integers(1, 3)):
            if data:
                DAMAGE[rng.integers(len(DAMAGE))](data, rng)
        suffix = suffixes[rng.integers(len(suffixes))].strip(".")  # seldom the right one
        read += check(bytes(data), original, suffix, tmp_path)
    assert 0.1 < read / len(seeds) < 0.75
