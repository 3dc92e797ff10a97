"""Image files of every usual kind, as the models want them: uint8, three channels."""

import io
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

from ..checks import check_choice
from ..errors import one_line

__all__ = ["FORMATS", "IMAGE_SUFFIXES", "UnreadableImage", "image_size", "is_image", "read_image"]

FORMATS = ("BGR", "RGB")
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jp2 .jpeg .jpg .pgm .png .pnm .ppm .tif .tiff .webp".split()
)

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_SCAN = 0xDA
# Every OpenCV turns these upright itself. It turns WebP only since 4.13, and AVIF not at all.
TURNED_BY_OPENCV = (JPEG_START, b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

EXIF_ORIENTATION, EXIF_SIDEWAYS = 274, (5, 6, 7, 8)
# Of these, once rows and columns have changed places in the sideways ones.
EXIF_ROWS_REVERSED, EXIF_COLUMNS_REVERSED = (3, 4, 7, 8), (2, 3, 6, 7)
TIFF_WIDTH, TIFF_HEIGHT = 256, 257


class UnreadableImage(OSError):
    """An image that cannot be used; the message is one line, the file and the reason."""


def is_image(path) -> bool:
    """Whether a file's name ends as an image's does."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: str, image_format: str = "BGR") -> np.ndarray:
    """Reads an image upright (its EXIF orientation applied), whatever its kind.

    Grey and palette images become colour, transparency is dropped, 16 bits are reduced to the
    upper 8. OpenCV decodes, and Detectron2's slower reader what OpenCV does not know; of the same
    JPEG they make the same pixels.

    Args:
        path: file or URL that Detectron2's PathManager opens.
        image_format: order of the channels, "BGR" or "RGB".

    Returns:
        uint8 (H, W, 3), contiguous and writable.

    Raises:
        UnreadableImage: the file is missing, empty, cut off, or no image.
        ConfigError: for another format.
    """
    check_choice("INPUT.FORMAT", image_format, FORMATS)
    try:
        with PathManager.open(path, "rb") as file:
            data = file.read()
        image = _decoded(data)
        if image is None:  # utils.read_image says why, or knows the format
            return np.require(utils.read_image(path, format=image_format), requirements="CW")
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from None
    except Exception as error:  # decoders raise many kinds
        raise UnreadableImage(f"{path}: {one_line(error)}") from error
    return image if image_format == "BGR" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(path: str) -> Tuple[int, int]:
    """(height, width) of the upright image in pixels, from the file's header alone.

    Raises:
        UnreadableImage: the header cannot be read.
    """
    try:
        with PathManager.open(path, "rb") as file, Image.open(file) as image:
            width, height = image.size
            if image.format == "TIFF":  # newer Pillow has turned its size already
                width, height = image.tag_v2[TIFF_WIDTH], image.tag_v2[TIFF_HEIGHT]
            sideways = _orientation(image) in EXIF_SIDEWAYS
    except Exception as error:  # decoders raise many kinds
        raise UnreadableImage(f"{path}: {one_line(error)}") from error
    return (width, height) if sideways else (height, width)


def _decoded(data: bytes):
    """The image in BGR, or None if OpenCV cannot decode it."""
    if not data:
        raise UnreadableImage("the file is empty")
    if _is_cut_jpeg(data):  # OpenCV would fill the missing part with grey
        raise UnreadableImage("the JPEG is cut off")
    pixels = np.frombuffer(data, np.uint8)
    try:
        if data.startswith(TURNED_BY_OPENCV):
            return cv2.imdecode(pixels, cv2.IMREAD_COLOR)
        image = cv2.imdecode(pixels, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return image if image is None else _upright(image, data)
    except (cv2.error, UnidentifiedImageError):  # without Pillow no one knows which way is up
        return None


def _upright(image: np.ndarray, data: bytes) -> np.ndarray:
    """The decoded pixels of a file as its EXIF data wants them."""
    with Image.open(io.BytesIO(data)) as header:
        orientation = _orientation(header)
    if orientation in EXIF_SIDEWAYS:
        image = image.swapaxes(0, 1)
    if orientation in EXIF_ROWS_REVERSED:
        image = image[::-1]
    if orientation in EXIF_COLUMNS_REVERSED:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _orientation(image: Image.Image):
    """What EXIF says of an opened file; None if that is nothing or cannot be read."""
    # Pillow would decode a whole PNG to look for EXIF data after the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return None
    try:
        return image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # as Detectron2's reader does: damaged EXIF data turn nothing
        return None


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG's end marker is missing; a thumbnail inside the header has its own."""
    if not data.startswith(JPEG_START):
        return False
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != JPEG_SCAN:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data.rfind(JPEG_END, start) < 0
