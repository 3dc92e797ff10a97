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

from ...utils.checks import check_choice
from ...utils.errors import one_line
from .header import MAX_PIXELS, Header, UnreadableImage, check_pixels, header_of, opened_header

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

# OpenCV only logs that a TIFF cannot be unpacked; a damaged JPEG 2000 crashes it before 5.0.
PROVEN_BY_PILLOW = ("JPEG2000", "TIFF")
# Pillow reads damaged ones that OpenCV refuses, where it was built to read them.
REFUSED_BY_OPENCV = ("AVIF", "GIF")

EXIF_SIDEWAYS = (5, 6, 7, 8)
# OpenCV's code of the flip, once rows and columns have changed places in the sideways ones.
EXIF_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}

if "OPENCV_LOG_LEVEL" not in os.environ:  # what it says of a file is said by UnreadableImage
    # OpenCV 5 has moved it.
    (cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)


def is_image(path) -> bool:
    """Whether a file's name ends as an image's does."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: str, image_format: str = "BGR", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image upright (its EXIF orientation applied), whatever its kind.

    Grey and palette images become colour, transparency is dropped, 16 bits are reduced to the
    upper 8. OpenCV decodes, and Pillow what OpenCV does not know; of the same JPEG they make the
    same pixels.

    Damage is noticed where a decoder can notice it: in a PNG always, which has checksums; in any
    other if its end is missing. Wrong bits in the middle of a JPEG, WebP, JPEG 2000, BMP or PNM
    are pixels like others. Even libjpeg's warnings, which OpenCV keeps to itself, tell of 20 in
    150 damaged baseline JPEGs.

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
    check_choice("image_format", image_format, FORMATS)
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
        header = opened_header(image)
        if max_pixels is not None:
            check_pixels(header.size, max_pixels)
        return _upright_size(header)


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
    if header.kind in PROVEN_BY_PILLOW:
        with Image.open(io.BytesIO(data)) as file:
            file.load()
    image = _by_opencv(data, header.kind)
    if image is None:
        image = _by_pillow(data)
    if header.kind != "TIFF":  # both decoders turn it themselves
        image = _upright(image, header.orientation)
    if image.shape[:2] != _upright_size(header):
        raise UnreadableImage(f"its header says {header.size}, its pixels are {image.shape[:2]}")
    return np.require(image, requirements="CW")


def _by_opencv(data: bytes, kind: str) -> np.ndarray | None:
    """What OpenCV decodes; None where only Pillow may know the kind."""
    # OpenCV turns JPEG and PNG by EXIF data, WebP only since 4.13, and AVIF not at all.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None and kind in REFUSED_BY_OPENCV and cv2.haveImageWriter(f".{kind.lower()}"):
        raise UnreadableImage(f"the {kind} is damaged")
    return image


def _by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as file:
        file.load()  # raises where Detectron2's reader would return what there is
        if file.mode.startswith(("I", "F")):  # Pillow would make white of what exceeds 8 bits
            raise UnreadableImage(f"pixels of the kind {file.mode} cannot be reduced to 8 bits")
        return utils.convert_PIL_to_numpy(file, "BGR")


def _upright_size(header: Header) -> tuple[int, int]:
    return header.size[::-1] if header.orientation in EXIF_SIDEWAYS else header.size


def _upright(image: np.ndarray, turn: int | None) -> np.ndarray:
    """The decoded pixels of a file as its EXIF orientation wants them."""
    if turn in EXIF_SIDEWAYS:
        image = cv2.transpose(image)
    return cv2.flip(image, EXIF_FLIPS[turn]) if turn in EXIF_FLIPS else image
