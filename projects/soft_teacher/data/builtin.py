"""Datasets that configs can name without writing code: the digits, COCO's unlabeled images, and
the splits of both."""

import os
import re
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .digits import register_digits
from .formats.coco import parse_file
from .records import records_of
from .split_registration import register_split, without_ground_truth
from .splits import FULL, PARTIAL_FAMILIES

__all__ = ["coco_root", "dataset_root", "missing_dataset_hint", "register_builtin"]

COCO = "coco_2017"
SPLIT_NAME = re.compile(
    rf"{COCO}_(?:(?P<family>{'|'.join(PARTIAL_FAMILIES)})_(?P<percent>[^_]+)p_fold(?P<fold>\d+)"
    rf"|{FULL})_(?:un)?labeled"
)


def dataset_root() -> Path:
    """$DETECTRON2_DATASETS, or ``datasets`` in the working directory, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def coco_root() -> Path:
    """COCO's folder: ``train2017/``, ``unlabeled2017/``, ``annotations/`` and our ``splits/``."""
    return dataset_root() / "coco"


def register_builtin() -> None:
    """Registers what configs name, for the $DETECTRON2_DATASETS of now; repeating it is fine.

    ======================================= =================================================
    ``coco_2017_unlabeled``                 unlabeled2017
    ``coco_2017_NAME_labeled, _unlabeled``  for each manifest ``coco/splits/NAME.json``
    ``digits_train, _unlabeled, _val``      what ``make demo`` has generated; with ground truth
                                            the unlabeled ones are ``digits_unlabeled_gt``
    ``digits_NAME_labeled, _unlabeled``     for each manifest ``digits/splits/NAME.json``
    ======================================= =================================================

    No manifest is opened: it is read and verified when its dataset is loaded. The images and
    boxes of COCO's splits are those of Detectron2's ``coco_2017_train``.

    Raises:
        ConfigError: one of the names is taken by something else.
    """
    _register_coco(coco_root())
    _register_digits(dataset_root() / "digits")


def missing_dataset_hint(name: str) -> str:
    """How to make a dataset that ``register_builtin`` would have registered.

    Returns:
        a hint that starts with ": run", empty for names of other kinds.
    """
    if name.startswith("digits_"):
        return f": run 'make demo' once, it writes it to {dataset_root() / 'digits'}"
    wanted = SPLIT_NAME.fullmatch(name)
    if wanted is None:
        return ""
    family, percent, fold = wanted.group("family", "percent", "fold")
    options = f"--family {family or FULL}"
    if family:
        options += f" --percent {percent} --folds {fold}"
    if family == "unbiased_teacher":
        options += " --index-file COCO_supervision.txt"
    folder = coco_root() / "splits"
    return f": run 'python tools/make_splits.py {options}' once, it writes to {folder}"


def _register_coco(root: Path) -> None:
    _forget(f"{COCO}_")
    unlabeled = f"{COCO}_unlabeled"
    if unlabeled not in DatasetCatalog.list():
        paths = {
            "json_file": str(root / "annotations" / "image_info_unlabeled2017.json"),
            "image_root": str(root / "unlabeled2017"),
        }
        DatasetCatalog.register(unlabeled, partial(_load_unlabeled, **paths))
        # No classes: the images serve a detector of any.
        MetadataCatalog.get(unlabeled).set(built_in=True, **paths)
    for manifest in sorted((root / "splits").glob("*.json")):
        pool = unlabeled if manifest.stem == FULL else None
        _register_split(COCO, f"{COCO}_train", manifest, unlabeled_source=pool)


def _register_digits(root: Path) -> None:
    if not (root / "spec.json").is_file():
        return
    register_digits(root)
    _forget("digits_")
    for manifest in sorted((root / "splits").glob("*.json")):
        _register_split("digits", "digits_train", manifest)


def _register_split(prefix: str, source: str, manifest: Path, **options) -> None:
    for name in register_split(f"{prefix}_{manifest.stem}", source, manifest, **options):
        MetadataCatalog.get(name).built_in = True


def _forget(prefix: str) -> None:
    """Removes what an earlier call registered, perhaps for another folder."""
    for name in [n for n in DatasetCatalog.list() if n.startswith(prefix)]:
        if MetadataCatalog.get(name).get("built_in"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def _load_unlabeled(json_file: str, image_root: str) -> list[dict]:
    """Image records alone: the JSON needs neither "annotations" nor "categories"."""
    dicts = records_of(parse_file(json_file, image_root)).dicts
    return [without_ground_truth(d) for d in dicts]
