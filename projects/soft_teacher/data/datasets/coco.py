"""COCO's unlabeled images and the splits of its labeled ones, as built-in datasets.

====================================== ===========================================
``coco_2017_unlabeled``                unlabeled2017
``coco_2017_NAME_labeled, _unlabeled`` for each manifest ``coco/splits/NAME.json``
====================================== ===========================================

The images and boxes of the splits are those of Detectron2's ``coco_2017_train``.
"""

import re
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .builtin import add_builtin, dataset_root, register_manifests
from .formats.coco import parse_file
from .reading.records import records_of
from .splits.families import FULL, PARTIAL_FAMILIES, SHOTS, SIZES
from .splits.registration import without_ground_truth

__all__ = ["coco_root"]

COCO = "coco_2017"
UNLABELED = f"{COCO}_unlabeled"
SPLIT_NAME = re.compile(
    rf"{COCO}_(?:(?P<family>{'|'.join(PARTIAL_FAMILIES)})_"
    rf"(?:(?P<percent>[^_]+)p|(?P<count>\d+))_fold(?P<fold>\d+)|{FULL})_(?:un)?labeled"
)


def coco_root() -> Path:
    """COCO's folder: ``train2017/``, ``unlabeled2017/``, ``annotations/`` and our ``splits/``."""
    return dataset_root() / "coco"


def _register() -> None:
    root = coco_root()
    if UNLABELED not in DatasetCatalog.list():
        paths = {
            "json_file": str(root / "annotations" / "image_info_unlabeled2017.json"),
            "image_root": str(root / "unlabeled2017"),
        }
        DatasetCatalog.register(UNLABELED, partial(_load_unlabeled, **paths))
        # No classes: the images serve a detector of any.
        MetadataCatalog.get(UNLABELED).set(built_in=True, **paths)
    register_manifests(COCO, f"{COCO}_train", root / "splits", {FULL: UNLABELED})


def _load_unlabeled(json_file: str, image_root: str) -> list[dict]:
    """Image records alone: the JSON needs neither "annotations" nor "categories"."""
    dicts = records_of(parse_file(json_file, image_root)).dicts
    return [without_ground_truth(d) for d in dicts]


def _hint(name: str) -> str:
    wanted = SPLIT_NAME.fullmatch(name)
    if wanted is None:
        return ""
    family, percent, count, fold = wanted.group("family", "percent", "count", "fold")
    options = f"--family {family or FULL}"
    if family:
        size = "percent" if percent else SHOTS if family == SHOTS else "count"
        if size not in SIZES[family]:
            return ""
        options += f" --{size} {percent or count} --folds {fold}"
    if family == "unbiased_teacher":
        options += " --index-file COCO_supervision.txt"
    folder = coco_root() / "splits"
    return f": run 'soft-teacher-splits {options}' once, it writes to {folder}"


add_builtin(f"{COCO}_", _register, _hint)
