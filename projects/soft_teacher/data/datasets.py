"""Registered datasets as lists of dicts, with every mistake in them told in one line."""

import os
from typing import Iterable, List, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

from ..errors import ConfigError, did_you_mean, one_line
from .builtin import dataset_root

__all__ = ["labeled_dicts", "unlabeled_dicts", "check_datasets"]


def labeled_dicts(names: Sequence[str], *, filter_empty: bool = True) -> List[dict]:
    """Labeled images with their annotations.

    Args:
        names: registered datasets.
        filter_empty: drop images without a box.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or nothing is left.
    """
    dicts = _load("DATASETS.TRAIN_LABELED", names)
    boxless = [d for d in dicts if any("bbox" not in a for a in d.get("annotations", ()))]
    if boxless:
        raise ConfigError(
            f"DATASETS.TRAIN_LABELED {_joined(names)}: {len(boxless)} images have annotations "
            f"without 'bbox', first {boxless[0]['file_name']}: remove them"
        )
    with_boxes = [d for d in dicts if _has_box(d)]
    if not with_boxes:
        raise ConfigError(
            f"DATASETS.TRAIN_LABELED {_joined(names)}: no image has an annotation; name a dataset "
            "with labels"
        )
    return with_boxes if filter_empty else dicts


def unlabeled_dicts(names: Sequence[str]) -> List[dict]:
    """Unlabeled images; annotations that a dataset may have are left out.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or it is empty.
    """
    dicts = _load("DATASETS.TRAIN_UNLABELED", names)
    return [{k: v for k, v in d.items() if k != "annotations"} for d in dicts]


def check_datasets(
    *,
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    test: Sequence[str],
    num_classes: int,
) -> None:
    """Checks that all datasets can be loaded and speak of the model's classes.

    Args:
        labeled, unlabeled, test: registered datasets; any may be empty.
        num_classes: of the model.

    Raises:
        ConfigError: for an unregistered or unreadable dataset, for a number of classes that is
            not the model's, or for categories that differ between datasets.
    """
    keys = {"TRAIN_LABELED": labeled, "TRAIN_UNLABELED": unlabeled, "TEST": test}
    named = [(f"DATASETS.{key}", name) for key, names in keys.items() for name in names]
    classes = {}
    dicts = {f"{key} '{name}'": _get(key, name) for key, name in named}
    for key, name in named:
        found = MetadataCatalog.get(name).get("thing_classes")
        if found:
            classes[f"{key} '{name}'"] = tuple(found)
    for where, found in classes.items():
        if len(found) != num_classes:
            raise ConfigError(
                f"{where} has {len(found)} classes but MODEL.ROI_HEADS.NUM_CLASSES is "
                f"{num_classes}: set it to {len(found)}"
            )
    _check_same_categories(classes)
    for name in test:  # training images are checked when they are loaded
        where = f"DATASETS.TEST '{name}'"
        _check_files(where, dicts[where])


def _check_same_categories(classes: dict) -> None:
    items = list(classes.items())
    for where, found in items[1:]:
        if found != items[0][1]:
            mine, other = next((a, b) for a, b in zip(found, items[0][1]) if a != b)
            raise ConfigError(
                f"{where} and {items[0][0]} differ in their categories ('{mine}' stands where "
                f"the other has '{other}'): give them the same categories in the same order"
            )


def _load(key: str, names: Sequence[str]) -> List[dict]:
    if not names:
        raise ConfigError(f"{key} is empty: name at least one dataset")
    for name in names:
        _check_files(f"{key} '{name}'", _get(key, name))
    return get_detection_dataset_dicts(list(names), filter_empty=False, check_consistency=False)


def _get(key: str, name: str) -> List[dict]:
    if name not in DatasetCatalog.list():
        raise ConfigError(f"{key} names '{name}', which is not a registered dataset{_hint(name)}")
    try:
        dicts = DatasetCatalog.get(name)
    except Exception as error:  # a malformed file can fail anywhere in its loader
        raise ConfigError(f"{key} '{name}' cannot be read: {one_line(error)}") from error
    if not dicts:
        raise ConfigError(f"{key} '{name}' has no images: remove it or fill it")
    return dicts


def _check_files(where: str, dicts: Iterable[dict]) -> None:
    names = [d.get("file_name", "without file_name") for d in dicts]
    missing = [name for name in names if not os.path.isfile(name)]
    if missing:
        raise ConfigError(
            f"{where}: {len(missing)} image files are missing, first {missing[0]}: check the image "
            "folder, or $DETECTRON2_DATASETS"
        )


def _has_box(dataset_dict: dict) -> bool:
    annotations = dataset_dict.get("annotations", ())
    return any(not a.get("iscrowd", 0) for a in annotations)


def _hint(name: str) -> str:
    if name.startswith("digits_"):
        return f": run 'make demo' once, it writes it to {dataset_root() / 'digits'}"
    return did_you_mean(name, DatasetCatalog.list(), quote="'")


def _joined(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in names)
