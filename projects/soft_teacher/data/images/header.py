"""What an image file tells before it is decoded: whether it is whole, how large, which way up."""

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
    "opened_header",
]

# Largest images that are decoded: at three bytes a pixel, 540 MB.
MAX_PIXELS = 180_000_000

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_APP1, JPEG_SCAN, JPEG_FILL = 0xE1, 0xDA, 0xFF
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PNG_START = b"\x89PNG\r\n\x1a\n"

EXIF_START, EXIF_ORIENTATION = b"Exif\0\0", 274
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
        orientation: what EXIF says; None if that is nothing or cannot be read.
    """

    kind: str
    size: tuple[int, int]
    orientation: int | None


def header_of(data: bytes) -> Header:
    """The header of a file; of the usual kinds without Pillow, which takes a tenth of a decode.

    Raises:
        UnreadableImage: a JPEG or a PNG is cut off, or a PNG damaged.
        Exception: whatever Pillow makes of what is no image.
    """
    found = None
    if data.startswith(PNG_START):
        found = _png_header(data)
    elif data.startswith(JPEG_START):
        found = _jpeg_header(data)
    if found is not None:
        return found
    with Image.open(io.BytesIO(data)) as image:
        return opened_header(image)


def opened_header(image: Image.Image) -> Header:
    """The header of a file that Pillow has opened."""
    if image.format == "TIFF":  # newer Pillow has turned its size already
        size = image.tag_v2[TIFF_HEIGHT], image.tag_v2[TIFF_WIDTH]
        return Header("TIFF", size, image.tag_v2.get(EXIF_ORIENTATION))
    # Not Pillow's getexif: it also believes XMP, and decodes a PNG to look behind the pixels.
    return Header(image.format, image.size[::-1], _orientation(image.info.get("exif", b"")))


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises UnreadableImage if an image of (height, width) has more pixels than allowed."""
    height, width = size
    if height * width > max_pixels:
        raise UnreadableImage(
            f"{width} x {height} pixels are more than max_pixels ({max_pixels}) allows"
        )


def _orientation(exif: bytes) -> int | None:
    found = Image.Exif()
    try:
        found.load(exif)
        return found.get(EXIF_ORIENTATION)
    except Exception:  # as Detectron2's reader does: damaged EXIF data turn nothing
        return None


def _jpeg_header(data: bytes) -> Header | None:
    """None where the parts of a JPEG's header do not follow each other.

    Raises:
        UnreadableImage: the end marker is missing. A thumbnail inside the header has its own.
    """
    place, size, exif = len(JPEG_START), None, b""
    while place + 9 <= len(data) and data[place] == 0xFF and data[place + 1] != JPEG_SCAN:
        marker = data[place + 1]
        if marker == JPEG_FILL:
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in JPEG_FRAMES:
            size = struct.unpack_from(">HH", data, place + 5)
        elif marker == JPEG_APP1 and data.startswith(EXIF_START, place + 4):
            exif += data[place + 4 + len(EXIF_START) : end]
        place = end
    if data.rfind(JPEG_END, place) < 0:
        raise UnreadableImage("the JPEG is cut off")
    return Header("JPEG", size, _orientation(exif)) if size else None


def _png_header(data: bytes) -> Header:
    """
    Raises:
        UnreadableImage: a part is missing, or does not have its checksum.
    """
    view, place, name, exif = memoryview(data), len(PNG_START), b"", b""
    try:
        while name != b"IEND":
            length, name = struct.unpack_from(">I4s", data, place)
            end = place + 8 + length
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(view[place + 4 : end]) != checksum:
                raise UnreadableImage("the PNG is damaged: a checksum is wrong")
            if name == b"eXIf":
                exif = data[place + 8 : end]
            place = end + 4
        width, height = struct.unpack_from(">II", data, len(PNG_START) + 8)
    except struct.error:
        raise UnreadableImage("the PNG is cut off") from None
    return Header("PNG", (height, width), _orientation(exif))
