"""Datasets given as paths instead of registered names.

======================== ==============================================================
FILE.json@FOLDER         COCO annotations and the folder of their images
FILE.json                COCO annotations with the images beside them
FILE.csv@FOLDER          a CSV file with a row for each box, and the folder of its images
FOLDER, FOLDER@SET       a Pascal VOC folder, or the images of one of its sets
FILE.yaml@SPLIT          a split of a YOLO dataset
FOLDER                   unlabeled: every image in it and in its subfolders
PATTERN with * ? [ or ** unlabeled: every image that matches
FILE.txt                 unlabeled: one image a line, relative to the file's own folder
======================== ==============================================================

A path is registered under itself, so that all later code handles names only.
"""

import os
import re
from collections.abc import Callable

from detectron2.data import DatasetCatalog, MetadataCatalog

from .formats import parser_of
from .listing import is_list, is_pattern, left_out_notes, listed
from .reading.reader import read_records
from .reading.records import Records, records_of

__all__ = ["is_path", "register_path", "slug"]


class _Path:
    """What is registered for a path: loads its dicts, or the records that they are made of."""

    def __init__(self, records: Callable[[bool], Records]):
        """
        Args:
            records: reads the path, with masks or not.
        """
        self.records = records

    def __call__(self) -> list[dict]:
        return read_records(self.records(True)).dicts


def register_path(name: str) -> bool:
    """Registers a dataset given as a path, lazily; a registered name stays as it is.

    Returns:
        whether ``name`` is registered now: False if it neither is a name nor reads as a path.
    """
    if name in DatasetCatalog.list():
        return True
    parse = parser_of(name)
    if parse is not None:
        DatasetCatalog.register(name, _Path(lambda masks: records_of(parse(), masks=masks)))
        MetadataCatalog.get(name).evaluator_type = "coco"
        return True
    if os.path.exists(os.path.expanduser(name)) or is_pattern(name) or is_list(name):
        DatasetCatalog.register(name, _Path(lambda masks: _image_records(name)))
        return True
    return False


def is_path(name: str) -> bool:
    """Whether a registered dataset was given as a path."""
    return isinstance(DatasetCatalog[name], _Path)


def slug(name: str) -> str:
    """A dataset's name as the name of a folder; a registered name mostly stays as it is."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _image_records(path: str) -> Records:
    path = os.path.expanduser(path)
    files, left_out = listed(path)
    folder = path if os.path.isdir(path) else ""
    return Records(
        dicts=[{"file_name": file, "image_id": file} for file in files],
        folder=os.path.dirname(path) if is_list(path) else folder,
        notes=left_out_notes(len(files), left_out),
    )
