"""The real pixels behind the digits dataset, and which of them are reserved for validation.

Both sources ship inside wheels, so nothing is downloaded: handwritten digits (scikit-learn) and
photographs (scikit-image's packaged data folder, read by path because going through
``skimage.data`` could fetch a missing file).
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.environment import installer, naming_broken_packages
from ..utils.errors import BrokenPackage

# Photographs without legible digits or letters that could pass for unlabeled objects.
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
VAL_SHARE = 0.3


@lru_cache(maxsize=1)
def load_digit_samples() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: (intensities N x 8 x 8 float32 in [0, 1], labels N int64).

    Raises:
        BrokenPackage: scikit-learn is not installed.
    """
    with naming_broken_packages():
        from sklearn.datasets import load_digits
    digits = load_digits()
    return (digits.images / 16.0).astype(np.float32), digits.target.astype(np.int64)


@lru_cache(maxsize=2)
def digits_by_class(val: bool) -> tuple[np.ndarray, ...]:
    """Sample ids of each digit 0 .. 9 that one side may use.

    The samples are stored writer after writer, so each class's last ones go to validation: that
    keeps most writers on one side.
    """
    _, labels = load_digit_samples()
    sides = []
    for digit in range(10):
        ids = np.flatnonzero(labels == digit)
        first_val = round(len(ids) * (1 - VAL_SHARE))
        sides.append(ids[first_val:] if val else ids[:first_val])
    return tuple(sides)


@lru_cache(maxsize=None)
def load_photo(name: str) -> np.ndarray:
    """One packaged photograph as H x W x 3 uint8 RGB; a grey one has equal channels.

    Raises:
        BrokenPackage: scikit-image is not installed.
        FileNotFoundError: this scikit-image does not package the photograph.
    """
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise BrokenPackage(f"the digits need scikit-image: {installer('skimage')}")
    path = Path(found.origin).parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; install the scikit-image wheel (0.22 or newer)")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def photo_region(name: str, val: bool) -> tuple[int, int, int, int]:
    """The rectangle (x, y, w, h) of a photograph, in its own pixels, that one side may crop from.

    The cut runs across the longer axis; the last VAL_SHARE of it is the validation side.
    """
    height, width = load_photo(name).shape[:2]
    if width >= height:
        cut = round(width * (1 - VAL_SHARE))
        return (cut, 0, width - cut, height) if val else (0, 0, cut, height)
    cut = round(height * (1 - VAL_SHARE))
    return (0, cut, width, height - cut) if val else (0, 0, width, cut)


def shortest_side(name: str) -> int:
    """Largest square side in pixels that fits both sides' regions of a photograph.

    Crops of both sides keep to it, so that both see the same range of magnifications.
    """
    return min(min(photo_region(name, val)[2:]) for val in (False, True))
