"""Datasets given as paths, where a registered name could stand.

======================== ==============================================================
FILE.json@FOLDER         COCO annotations and the folder of their images
FILE.json                COCO annotations with the images beside them
FOLDER                   unlabeled: every image in it and in its subfolders
PATTERN with * ? [ or ** unlabeled: every image that matches
FILE.txt                 unlabeled: one image a line, relative to the file's own folder
======================== ==============================================================

A path is registered under itself, so that everything after speaks of names only.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .formats import parser_of
from .image import is_image
from .reader import read_records
from .records import Records, records_of

__all__ = ["is_path", "list_images", "register_path", "slug"]

LIST_SUFFIX = ".txt"
# Folders of systems and tools begin with a dot, but for this one of zip files from macOS.
MACOS_FOLDER = "__MACOSX"


class _Path:
    """What is registered for a path: loads its dicts, or the records that they are made of."""

    def __init__(self, records: Callable[[], Records]):
        self.records = records

    def __call__(self) -> list[dict]:
        return read_records(self.records()).dicts


def register_path(name: str) -> bool:
    """Registers a dataset given as a path, lazily; a registered name stays as it is.

    Returns:
        whether ``name`` is registered now: False if it neither is a name nor reads as a path.
    """
    if name in DatasetCatalog.list():
        return True
    parse = parser_of(name)
    if parse is not None:
        DatasetCatalog.register(name, _Path(lambda: records_of(parse())))
        MetadataCatalog.get(name).evaluator_type = "coco"
        return True
    if os.path.exists(os.path.expanduser(name)) or _is_pattern(name) or _is_list(name):
        DatasetCatalog.register(name, _Path(lambda: _image_records(name)))
        return True
    return False


def is_path(name: str) -> bool:
    """Whether a registered dataset was given as a path."""
    return isinstance(DatasetCatalog[name], _Path)


def list_images(path: str) -> list[str]:
    """The images of a folder, a pattern or a list, in a stable order.

    Raises:
        OSError: the folder or the list cannot be read.
        ValueError: the list is no text in UTF-8.
    """
    return _listed(path)[0]


def slug(name: str) -> str:
    """A dataset's name as the name of a folder; a registered name mostly stays as it is."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _image_records(path: str) -> Records:
    files, left_out = _listed(path)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    folder = os.path.expanduser(path) if os.path.isdir(os.path.expanduser(path)) else ""
    return Records(
        dicts=[{"file_name": file, "image_id": file} for file in files],
        folder=os.path.dirname(os.path.expanduser(path)) if _is_list(path) else folder,
        notes=[f"{len(files):,} images are taken, left out are {reasons}"] if left_out else [],
    )


def _listed(path: str) -> tuple[list[str], Counter]:
    """The images, and what was left out for which reason."""
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return _walked(path)
    if _is_pattern(path):  # matches hidden files only where it names them
        return _photos(filter(os.path.isfile, glob.iglob(path, recursive=True)))
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    folder = os.path.dirname(path)
    files = [os.path.join(folder, line) for line in lines if line and not line.startswith("#")]
    return files, Counter()


def _walked(root: str) -> tuple[list[str], Counter]:
    """What is in a folder and in its subfolders, but for hidden ones."""
    closed: list[OSError] = []
    seen, left_out = [], Counter()
    for folder, folders, names in os.walk(root, onerror=closed.append):
        hidden = _is_hidden(os.path.relpath(folder, root))
        links = [f for f in folders if os.path.islink(os.path.join(folder, f))]
        left_out["linked folders"] += len(links)
        taken = [] if hidden else [name for name in names if not _is_hidden(name)]
        left_out["hidden files"] += len(names) - len(taken)
        seen += [os.path.join(folder, name) for name in taken]
    left_out["folders that cannot be read"] += len(closed)
    photos, others = _photos(seen)
    return photos, +left_out + others


def _photos(files: Iterable[str]) -> tuple[list[str], Counter]:
    files = list(files)
    others = [file for file in files if not is_image(file)]
    suffixes = (os.path.splitext(file)[1].lower() or "no suffix" for file in others)
    return sorted(filter(is_image, files)), Counter(f"other files ({s})" for s in suffixes)


def _is_hidden(path: str) -> bool:
    """Whether a name is what systems and tools put beside photos."""
    parts = Path(path).parts
    return MACOS_FOLDER in parts or any(part.startswith(".") for part in parts if part != "..")


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _is_list(path: str) -> bool:
    return path.lower().endswith(LIST_SUFFIX)
