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
from functools import partial
from pathlib import Path
from typing import List

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from .given_labels import SCORE
from .image import is_image

__all__ = ["list_images", "register_path", "slug"]

LIST_SUFFIX = ".txt"


def register_path(name: str) -> bool:
    """Registers a dataset given as a path, lazily; a registered name stays as it is.

    Returns:
        whether ``name`` is registered now: False if it neither is a name nor reads as a path.
    """
    if name in DatasetCatalog.list():
        return True
    json_file, _, folder = name.partition("@")
    if json_file.endswith(".json"):
        _register_coco(name, json_file, folder or os.path.dirname(json_file))
        return True
    if os.path.exists(os.path.expanduser(name)) or _is_pattern(name) or name.endswith(LIST_SUFFIX):
        DatasetCatalog.register(name, partial(_load, name))
        return True
    return False


def list_images(path: str) -> List[str]:
    """The images of a folder, a pattern or a list, in a stable order.

    Raises:
        OSError: the folder or the list cannot be read.
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        found = (os.path.join(f, name) for f, _, names in os.walk(path) for name in names)
        return sorted(filter(is_image, found))
    if _is_pattern(path):
        return sorted(filter(is_image, glob.iglob(path, recursive=True)))
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    folder = os.path.dirname(path)
    return [os.path.join(folder, line) for line in lines if line and not line.startswith("#")]


def slug(name: str) -> str:
    """A dataset's name as the name of a folder; a registered name mostly stays as it is."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_")


def _register_coco(name: str, json_file: str, folder: str) -> None:
    """Detectron2's register_coco_instances, but for the scores of pseudo labels."""
    files = dict(json_file=os.path.expanduser(json_file), image_root=os.path.expanduser(folder))
    load = partial(load_coco_json, **files, dataset_name=name, extra_annotation_keys=[SCORE])
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(evaluator_type="coco", **files)


def _load(path: str) -> List[dict]:
    return [{"file_name": file, "image_id": file} for file in list_images(path)]


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")
