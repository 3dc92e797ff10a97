"""Image files of every usual kind, as the models want them: uint8, three channels."""

import io
import os
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..checks import check_choice
from ..errors import one_line
from .image_header import (
    MAX_PIXELS,
    Header,
    UnreadableImage,
    check_pixels,
    header_of,
    orientation,
    stored_size,
)

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "UnreadableImage",
    "image_size",
    "is_image",
    "read_image",
]

FORMATS = ("BGR", "RGB")
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jp2 .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split()
)

# Every OpenCV turns these upright itself. It turns WebP only since 4.13, and AVIF not at all.
TURNED_BY_OPENCV = ("JPEG", "MPO", "PNG", "TIFF")
# Pillow reads damaged ones that OpenCV refuses, where it was built to read them.
REFUSED_BY_OPENCV = ("AVIF", "GIF")

EXIF_SIDEWAYS = (5, 6, 7, 8)
# Of these, once rows and columns have changed places in the sideways ones.
EXIF_ROWS_REVERSED, EXIF_COLUMNS_REVERSED = (3, 4, 7, 8), (2, 3, 6, 7)

if "OPENCV_LOG_LEVEL" not in os.environ:  # what it says of a file is said by UnreadableImage
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def is_image(path) -> bool:
    """Whether a file's name ends as an image's does."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: str, image_format: str = "BGR", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image upright (its EXIF orientation applied), whatever its kind.

    Grey and palette images become colour, transparency is dropped, 16 bits are reduced to the
    upper 8. OpenCV decodes, and Pillow what OpenCV does not know; of the same JPEG they make the
    same pixels.

    Damage is noticed where a decoder can notice it: in a PNG always, which has checksums; in a
    JPEG if its end is missing. Wrong bits in the middle of a JPEG, a lossy WebP, a BMP or a PNM
    are pixels like others: libjpeg itself warns of one damaged JPEG in six, and of sound ones.

    Args:
        path: file or URL that Detectron2's PathManager opens.
        image_format: order of the channels, "BGR" or "RGB".
        max_pixels: an image with more of them, by its header, is not decoded.

    Returns:
        uint8 (H, W, 3), contiguous and writable.

    Raises:
        UnreadableImage: the file is missing, empty, cut off, damaged, too large, or no image.
        ConfigError: for another format.
    """
    check_choice("INPUT.FORMAT", image_format, FORMATS)
    with _named(path):
        with PathManager.open(path, "rb") as file:
            data = file.read()
        image = _decoded(data, max_pixels)
    return image if image_format == "BGR" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(path: str, max_pixels: int | None = None) -> tuple[int, int]:
    """(height, width) of the upright image in pixels, from the file's header alone.

    Args:
        max_pixels: see :func:`read_image`; None for any number.

    Raises:
        UnreadableImage: the header cannot be read, or promises too many pixels.
    """
    with _named(path), PathManager.open(path, "rb") as file, Image.open(file) as image:
        size = stored_size(image)
        if max_pixels is not None:
            check_pixels(size, max_pixels)
        return size[::-1] if orientation(image) in EXIF_SIDEWAYS else size


@contextmanager
def _named(path: str):
    """Makes an UnreadableImage with the file's name of whatever is raised inside."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from None
    except Exception as error:  # decoders raise many kinds
        raise UnreadableImage(f"{path}: {one_line(error)}") from error


def _decoded(data: bytes, max_pixels: int) -> np.ndarray:
    """The upright image in BGR."""
    if not data:
        raise UnreadableImage("the file is empty")
    header = header_of(data)
    check_pixels(header.size, max_pixels)
    if header.kind == "TIFF":  # OpenCV only logs that a part of it cannot be unpacked
        with Image.open(io.BytesIO(data)) as file:
            file.load()
    image = _by_opencv(data, header)
    if image is None:
        image = _by_pillow(data)
    if sorted(image.shape[:2]) != sorted(header.size):
        raise UnreadableImage(f"its header tells of {header.size} pixels, not {image.shape[:2]}")
    return image


def _by_opencv(data: bytes, header: Header) -> np.ndarray | None:
    """What OpenCV decodes, upright; None where only Pillow may know the kind."""
    turns = header.kind in TURNED_BY_OPENCV
    flags = cv2.IMREAD_COLOR | (0 if turns else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is not None:
        return image if turns else _upright(image, header.orientation)
    if header.kind in REFUSED_BY_OPENCV and cv2.haveImageWriter(f".{header.kind.lower()}"):
        raise UnreadableImage(f"the {header.kind} is damaged")
    return None


def _by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as file:
        file.load()  # raises where Detectron2's reader would return what there is
        return _upright(utils.convert_PIL_to_numpy(file, "BGR"), orientation(file))


def _upright(image: np.ndarray, turn: int | None) -> np.ndarray:
    """The decoded pixels of a file as its EXIF orientation wants them."""
    if turn in EXIF_SIDEWAYS:
        image = image.swapaxes(0, 1)
    if turn in EXIF_ROWS_REVERSED:
        image = image[::-1]
    if turn in EXIF_COLUMNS_REVERSED:
        image = image[:, ::-1]
    return np.require(image, requirements="CW")
