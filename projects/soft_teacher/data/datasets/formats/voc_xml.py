"""One XML file of Pascal VOC: the boxes of an image."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ....utils.errors import one_line
from ..reading.raw_dataset import NOT_MEASURED

__all__ = ["Annotated", "UnreadableXml", "read_xml"]

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class UnreadableXml(ValueError):
    """A file that is no annotation; the message is one line, the file and the reason."""


@dataclass
class Annotated:
    """What an XML file says about its image.

    Attributes:
        file_name: of the image; may be empty or out of date.
        size: ``width`` and ``height`` in pixels; empty if the file lacks them.
        objects: class name, and ``bbox`` as in COCO and maybe ``not_measured``, of each.
    """

    file_name: str
    size: dict[str, int]
    objects: list[tuple[str, dict]]


def read_xml(file: str) -> Annotated:
    """Reads one file; boxes may be anything.

    Raises:
        UnreadableXml: there is no file, it is no XML, or another kind of it.
    """
    try:
        # Expat reads no external entities and stops where internal ones inflate the text.
        root = ElementTree.fromstring(Path(file).read_bytes())
    except (ElementTree.ParseError, LookupError, ValueError, OSError) as error:
        raise UnreadableXml(f"{file} ({one_line(error)})") from error
    if root.tag != "annotation":
        raise UnreadableXml(f"{file} (its root is <{root.tag}> instead of <annotation>)")
    return Annotated(
        file_name=_text(root, "filename"),
        size=_size(root),
        objects=[(_text(found, "name"), _box(found)) for found in root.iterfind("object")],
    )


def _size(root) -> dict[str, int]:
    size = {side: _number(root.findtext(f"size/{side}")) for side in ("width", "height")}
    whole = all(isinstance(n, float) and n.is_integer() and n > 0 for n in size.values())
    return {side: int(n) for side, n in size.items()} if whole else {}


def _box(found) -> dict:
    corners = [_number(found.findtext(f"bndbox/{corner}")) for corner in CORNERS]
    difficult = _text(found, "difficult").lower() in ("1", "true")
    return {"bbox": _xywh(corners)} | ({NOT_MEASURED: True} if difficult else {})


def _xywh(corners: list) -> list:
    """COCO's box of corners that are pixels counted from 1; what is no number stays as it is."""
    if not all(isinstance(corner, float) for corner in corners):
        return corners
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    # Both corners' pixels belong to a box, but a box that is a single point has no extent.
    return [left - 1, top - 1, width + (width > 0), height + (height > 0)]


def _number(text: str | None) -> float | str | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def _text(element, path: str) -> str:
    return (element.findtext(path) or "").strip()
