"""Formats of annotations that a path can name, each brought into one shape."""

from collections.abc import Callable
from functools import partial

from ..reading.raw_dataset import RawDataset
from . import coco, csv_file, voc, yolo

__all__ = ["FORMATS", "parser_of"]

# Modules with ``matches(path) -> bool`` and ``parse(path) -> RawDataset``; the first that matches.
FORMATS = (coco, csv_file, yolo, voc)


def parser_of(path: str) -> Callable[[], RawDataset] | None:
    """What reads a dataset with annotations; None if the path is of no such form."""
    return next((partial(f.parse, path) for f in FORMATS if f.matches(path)), None)
