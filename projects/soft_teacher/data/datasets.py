"""Datasets as lists of dicts, with every mistake in them told in one line."""

import itertools
import os
from typing import Dict, Iterable, List, Sequence, Tuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import ConfigError, did_you_mean, one_line
from .builtin import missing_dataset_hint
from .given_labels import give_annotations
from .hidden_labels import hide_annotations
from .loading import load_dicts, loaded_once
from .paths import register_path
from .sampler import LABELED, UNLABELED

__all__ = [
    "KEYS",
    "ROLES",
    "as_list",
    "check_boxes",
    "check_classes",
    "check_datasets",
    "check_files",
    "class_names",
    "dataset_dicts",
    "labeled_dicts",
    "train_names",
    "unlabeled_dicts",
]

KEYS = {LABELED: "DATASETS.TRAIN_LABELED", UNLABELED: "DATASETS.TRAIN_UNLABELED"}
TEST = "DATASETS.TEST"
ROLES = {"labeled": KEYS[LABELED], "unlabeled": KEYS[UNLABELED], "test": TEST}
# What DatasetMapper drops where it makes neither: five sixths of COCO's annotations.
MASKS = ("segmentation", "keypoints")


def train_names(cfg) -> Tuple[List[str], List[str]]:
    """DATASETS.TRAIN_LABELED and TRAIN_UNLABELED with braces filled from DATASETS.SPLIT.

    Raises:
        ConfigError: for braces that are no key of DATASETS.SPLIT.
    """
    split = cfg.DATASETS.SPLIT
    values = {"FAMILY": split.FAMILY, "PERCENT": f"{split.PERCENT:g}", "FOLD": split.FOLD}
    labeled = _filled(KEYS[LABELED], cfg.DATASETS.TRAIN_LABELED, values)
    return labeled, _filled(KEYS[UNLABELED], cfg.DATASETS.TRAIN_UNLABELED, values)


def labeled_dicts(names: Sequence[str], *, filter_empty: bool = True) -> List[dict]:
    """Labeled images with their annotations, but for masks and keypoints.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        filter_empty: drop images without a box.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or nothing is left.
    """
    dicts = _load(KEYS[LABELED], names)
    check_boxes(f"{KEYS[LABELED]} {_joined(names)}", dicts)
    with_boxes = [d for d in dicts if _has_box(d)]
    if not with_boxes:
        raise ConfigError(
            f"DATASETS.TRAIN_LABELED {_joined(names)}: no image has an annotation; name a dataset "
            "with labels, or annotations and their images as FILE.json@FOLDER"
        )
    return [_boxes_only(d) for d in (with_boxes if filter_empty else dicts)]


def unlabeled_dicts(
    names: Sequence[str], *, hidden_labels: bool = True, label_source: str = "teacher"
) -> List[dict]:
    """Unlabeled images; unless it asks for them, training never sees annotations they may have.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        hidden_labels: keep annotations under a key of their own, to measure pseudo boxes with,
            see :func:`~soft_teacher.data.hidden_labels.hide_annotations`.
        label_source: with "dataset" annotations are the pseudo boxes instead, see
            :func:`~soft_teacher.data.given_labels.give_annotations`.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or it is empty; if there is no
            annotation where they are asked for.
    """
    key = KEYS[UNLABELED]
    parts = _load_each(key, names)
    if label_source == "dataset":
        parts = [give_annotations(f"{key} '{n}'", part) for n, part in zip(as_list(names), parts)]
    return [d for part in parts for d in hide_annotations(part, keep=hidden_labels)]


def class_names(names: Sequence[str]) -> List[str]:
    """Classes of loaded datasets, by class number; empty if none of them tells any."""
    found = (MetadataCatalog.get(name).get("thing_classes") for name in as_list(names))
    return next((list(classes) for classes in found if classes), [])


@loaded_once()
def check_datasets(
    *,
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    test: Sequence[str],
    num_classes: int,
    classes_key: str = "the model's number of classes",
) -> List[str]:
    """Checks that all datasets can be loaded and speak of the model's classes.

    Args:
        labeled, unlabeled, test: registered datasets, or paths; any may be empty.
        num_classes: of the model.
        classes_key: what messages call that.

    Returns:
        what is worth a warning: images that stand in more than one of the three.

    Raises:
        ConfigError: for an unregistered or unreadable dataset, for a number of classes that is
            not the model's, or for categories that differ between datasets.
    """
    roles = {KEYS[LABELED]: labeled, KEYS[UNLABELED]: unlabeled, TEST: test}
    dicts = {key: {name: dataset_dicts(key, name) for name in roles[key]} for key in roles}
    check_classes(roles, num_classes, classes_key)
    for name in test:  # training images are checked when they are loaded
        check_files(f"{TEST} '{name}'", dicts[TEST][name])
        if not any("annotations" in d for d in dicts[TEST][name]):
            raise ConfigError(
                f"{TEST} '{name}' has no labels to evaluate with: name a dataset that has, or "
                "annotations and their images as FILE.json@FOLDER"
            )
    files = {key: {f for d in found.values() for f in _files(d)} for key, found in dicts.items()}
    return _shared_images(files)


def dataset_dicts(key: str, name: str) -> List[dict]:
    """The dicts of one dataset.

    Args:
        key: config key that names it, for the messages.
        name: a registered dataset, or a path.

    Raises:
        ConfigError: it is not registered, cannot be read, or is empty.
    """
    if not register_path(name):
        hint = missing_dataset_hint(name) or did_you_mean(name, DatasetCatalog.list(), quote="'")
        raise ConfigError(
            f"{key} names '{name}', which is neither a registered dataset nor an existing path"
            f"{hint}"
        )
    try:
        dicts = load_dicts(name)
    except Exception as error:  # a malformed file can fail anywhere in its loader
        raise ConfigError(f"{key} '{name}' cannot be read: {one_line(error)}") from error
    if not dicts:
        raise ConfigError(f"{key} '{name}' has no images: remove it or fill it")
    return dicts


def _filled(key: str, names: Sequence[str], values: dict) -> List[str]:
    try:
        return [name.format(**values) for name in names]
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{key} {_joined(names)}: braces are filled with {', '.join(values)} of "
            f"DATASETS.SPLIT, there is no {error}"
        ) from error


def check_classes(
    roles: Dict[str, Sequence[str]],
    num_classes: int,
    classes_key: str = "the model's number of classes",
) -> None:
    """Raises ConfigError unless all loaded datasets have these classes, and the same.

    Args:
        roles: config key or option -> names of the datasets.
        num_classes, classes_key: see :func:`check_datasets`.
    """
    classes = {}
    for key, names in roles.items():
        for name in names:
            found = MetadataCatalog.get(name).get("thing_classes")
            if found:
                classes[f"{key} '{name}'"] = tuple(found)
    for where, found in classes.items():
        if len(found) != num_classes:
            raise ConfigError(
                f"{where} has {len(found)} classes but {classes_key} is {num_classes}: set it to "
                f"{len(found)}"
            )
    _check_same_categories(classes)


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
    return [d for part in _load_each(key, names) for d in part]


def _load_each(key: str, names: Sequence[str]) -> List[List[dict]]:
    names = as_list(names)
    if not names:
        raise ConfigError(f"{key} is empty: name at least one dataset")
    parts = []
    for name in names:
        parts.append(dataset_dicts(key, name))
        check_files(f"{key} '{name}'", parts[-1])
    return parts


def check_boxes(where: str, dicts: Iterable[dict]) -> None:
    """Raises ConfigError if an annotation has no box."""
    boxless = [d for d in dicts if any("bbox" not in a for a in d.get("annotations", ()))]
    if boxless:
        raise ConfigError(
            f"{where}: {len(boxless)} images have annotations without 'bbox', first "
            f"{boxless[0]['file_name']}: remove them"
        )


def check_files(where: str, dicts: Iterable[dict]) -> None:
    """Raises ConfigError if an image file is missing."""
    missing = [name for name in _files(dicts) if not os.path.isfile(name)]
    if missing:
        raise ConfigError(
            f"{where}: {len(missing)} image files are missing, first {missing[0]}: check the image "
            "folder, or $DETECTRON2_DATASETS"
        )


def _files(dicts: Iterable[dict]) -> List[str]:
    return [d.get("file_name", "without file_name") for d in dicts]


def _shared_images(files: Dict[str, set]) -> List[str]:
    """A line for each two keys that name the same image files."""
    paths = {key: {os.path.abspath(f): f for f in names} for key, names in files.items()}
    warnings = []
    for one, other in itertools.combinations(paths, 2):
        shared = sorted(paths[one].keys() & paths[other].keys())
        if shared:
            what = "evaluation is not honest" if other == TEST else "they are learned from twice"
            warnings.append(
                f"{one} and {other} share {len(shared)} images, first {shared[0]}: {what}"
            )
    return warnings


def _has_box(dataset_dict: dict) -> bool:
    annotations = dataset_dict.get("annotations", ())
    return any(not a.get("iscrowd", 0) for a in annotations)


def _boxes_only(dataset_dict: dict) -> dict:
    annotations = dataset_dict.get("annotations")
    if not any(key in a for a in annotations or () for key in MASKS):
        return dataset_dict
    boxes = [{k: v for k, v in a.items() if k not in MASKS} for a in annotations]
    return {**dataset_dict, "annotations": boxes}


def as_list(names: Sequence[str]) -> List[str]:
    """Names as a list; a LazyConfig may give one name instead."""
    return [names] if isinstance(names, str) else list(names)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in as_list(names))
