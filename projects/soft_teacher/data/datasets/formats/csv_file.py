"""CSV with a header and a row for each box: FILE.csv@FOLDER, or FILE.csv with the images beside it.

Columns are in any order, and their underscores may be missing:

========================== ====================================================================
``file`` or ``filename``   the image, relative to the folder
``class``                  name of the class; empty, with the corners, for an image without boxes
``x_min`` ... ``y_max``    four corners, absolute pixels
``width``, ``height``      optional: of the image
``score``                  optional
========================== ====================================================================
"""

import csv
import io
import os

from ....utils.errors import ConfigError, one_line
from ...values import as_number
from ..listing import CLASS_LISTS, listed_classes
from ..reading.raw_dataset import RawDataset, example
from .text_file import BYTE_ORDER_MARK, file_and_folder, read_text

__all__ = ["matches", "parse"]

SUFFIX = ".csv"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SIZE = ("width", "height")


def matches(path: str) -> bool:
    """Whether a path is of this form."""
    return file_and_folder(path, SUFFIX) is not None


def parse(path: str) -> RawDataset:
    """The images that have a row; their ids are their names.

    Classes are the lines of ``classes.txt`` beside the file, else all names in it, in alphabetical
    order.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or is about frames of videos.
    """
    file, folder = file_and_folder(path, SUFFIX)
    rows = _rows(file)
    if any(row.get("frame") for row in rows):
        raise ConfigError(f"{file} has boxes in frames of videos, which are no images")
    boxes = [row for row in rows if any(row[key] for key in ("class", *CORNERS))]
    listed = listed_classes(os.path.dirname(file))
    names = listed or sorted({row["class"] for row in boxes} - {""})
    ids = {name: number for number, name in enumerate(names, 1)}
    strange = [repr(row["class"]) for row in boxes if row["class"] not in ids]
    first = {row["file"]: row for row in reversed(rows)}
    return RawDataset(
        where=file,
        folder=folder,
        images=[
            {"id": name, "file_name": name, **{k: first[name][k] for k in SIZE if first[name][k]}}
            for name in dict.fromkeys(row["file"] for row in rows)
        ],
        annotations=[_annotation(row, ids) for row in boxes],
        categories=[{"id": number, "name": name} for name, number in ids.items()],
        notes=example(strange, f"objects have a name that is empty or not in {CLASS_LISTS[0]}"),
    )


def _rows(file: str) -> list[dict[str, str]]:
    """Rows by the names of their columns without underscores; what is missing is empty."""
    text = io.StringIO(read_text(file).removeprefix(BYTE_ORDER_MARK))
    table = csv.DictReader(text, restval="", strict=True)
    try:
        known = [name.strip().lower().replace("_", "") for name in table.fieldnames or ()]
        table.fieldnames = ["file" if name == "filename" else name for name in known]
        rows = [row for row in table if row.get("file")]
    except csv.Error as error:
        raise ConfigError(f"{file} is no CSV: {one_line(error)}") from error
    missing = [name for name in ("file", "class", *CORNERS) if name not in table.fieldnames]
    if missing:
        raise ConfigError(f"{file} has no column {', '.join(missing)}: its first row names columns")
    return [{**dict.fromkeys((*SIZE, "score"), ""), **row} for row in rows]


def _annotation(row: dict[str, str], ids: dict[str, int]) -> dict:
    """COCO's annotation, without a category where there is no name."""
    corners = [as_number(row[key]) for key in CORNERS]
    box = [row[key] for key in CORNERS]  # for the message about it
    if None not in corners:
        x_min, y_min, x_max, y_max = corners
        box = [x_min, y_min, x_max - x_min, y_max - y_min]
    score = {"score": row["score"]} if row["score"] else {}
    return {"image_id": row["file"], "category_id": ids.get(row["class"]), "bbox": box, **score}
