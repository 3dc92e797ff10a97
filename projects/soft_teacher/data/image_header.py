"""What the bytes of an image file tell before they are decoded: whether they are all there, how
many pixels they hold, and which way is up."""

import io
import struct
import zlib
from dataclasses import dataclass

from PIL import Image

__all__ = [
    "Header",
    "MAX_PIXELS",
    "UnreadableImage",
    "check_pixels",
    "header_of",
    "orientation",
    "stored_size",
]

# Largest images that are decoded: at three bytes a pixel, 540 MB.
MAX_PIXELS = 180_000_000

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_SCAN, JPEG_FILL = 0xDA, 0xFF
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PNG_START = b"\x89PNG\r\n\x1a\n"

EXIF_ORIENTATION = 274
TIFF_WIDTH, TIFF_HEIGHT = 256, 257

# Pillow's own limit cannot be told for an image; check_pixels stands in for it.
Image.MAX_IMAGE_PIXELS = None


class UnreadableImage(OSError):
    """An image that cannot be used; the message is one line, the file and the reason."""


@dataclass(frozen=True)
class Header:
    """What is known of a file that was not decoded.

    Attributes:
        kind: as Pillow calls it.
        size: (height, width) of its pixels before EXIF data turn them.
        orientation: of EXIF; None for JPEG and PNG, in which nobody but OpenCV looks for it.
    """

    kind: str
    size: tuple[int, int]
    orientation: int | None = None


def header_of(data: bytes) -> Header:
    """
    Raises:
        UnreadableImage: a JPEG or a PNG is cut off, or a PNG damaged.
    """
    if data.startswith(PNG_START):
        return Header("PNG", _png_size(data))
    size = _jpeg_size(data) if data.startswith(JPEG_START) else None
    if size is not None:
        return Header("JPEG", size)
    with Image.open(io.BytesIO(data)) as image:
        return Header(image.format, stored_size(image), orientation(image))


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises UnreadableImage if an image of (height, width) has more pixels than allowed."""
    height, width = size
    if height * width > max_pixels:
        raise UnreadableImage(
            f"{width} x {height} pixels are more than INPUT.MAX_PIXELS ({max_pixels}) allows"
        )


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an opened file's pixels before EXIF data turn them."""
    if image.format == "TIFF":  # newer Pillow has turned its size already
        return image.tag_v2[TIFF_HEIGHT], image.tag_v2[TIFF_WIDTH]
    return image.size[::-1]


def orientation(image: Image.Image) -> int | None:
    """What EXIF says of an opened file; None if that is nothing or cannot be read."""
    # Pillow would decode a whole PNG to look for EXIF data after the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return None
    try:
        return image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # as Detectron2's reader does: damaged EXIF data turn nothing
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG as it is stored; None where its header is not in order.

    Raises:
        UnreadableImage: the end marker is missing. A thumbnail inside the header has its own.
    """
    place, size = len(JPEG_START), None
    while place + 9 <= len(data) and data[place] == 0xFF and data[place + 1] != JPEG_SCAN:
        marker = data[place + 1]
        if marker in JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, place + 5)
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        place += 1 if marker == JPEG_FILL else 2 + length
    if data.rfind(JPEG_END, place) < 0:
        raise UnreadableImage("the JPEG is cut off")
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a PNG as it is stored.

    Raises:
        UnreadableImage: a part is missing, or does not have its checksum.
    """
    bytes_, place, name = memoryview(data), len(PNG_START), b""
    try:
        while name != b"IEND":
            length, name = struct.unpack_from(">I4s", data, place)
            end = place + 8 + length
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(bytes_[place + 4 : end]) != checksum:
                raise UnreadableImage("the PNG is damaged: a checksum is wrong")
            place = end + 4
        width, height = struct.unpack_from(">II", data, len(PNG_START) + 8)
    except struct.error:
        raise UnreadableImage("the PNG is cut off") from None
    return height, width
