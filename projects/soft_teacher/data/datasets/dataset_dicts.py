"""Datasets as lists of dicts, with every mistake in them reported in one line."""

import itertools
import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog

from ...utils.errors import ConfigError, did_you_mean, one_line
from ..roles import KEYS, LABELED, ROLES, TEST, UNLABELED
from ..unlabeled_annotations import (
    HIDDEN_ANNOTATIONS,
    LABEL_SOURCES,
    hold_out_ground_truth,
    take_pseudo_labels,
)
from .builtin import missing_dataset_hint
from .class_checks import (
    CLASSES,
    boxless_classes,
    check_class_numbers,
    check_classes,
    class_names,
    placeholder_hint,
)
from .evaluated import prepare_evaluation
from .loading import load_reading, loaded_once
from .paths import register_path
from .reading.reader import Reading
from .role_checks import check_given, check_ground_truth, check_images, check_labels, label_warnings

__all__ = [
    "TEACHER",
    "as_list",
    "check_datasets",
    "class_names",
    "dataset_reading",
    "describe_datasets",
    "ground_truth_dicts",
    "labeled_dicts",
    "train_names",
    "unlabeled_dicts",
]

TEACHER, GIVEN = LABEL_SOURCES
# What DatasetMapper drops where it makes neither: five sixths of COCO's annotations.
MASKS = ("segmentation", "keypoints")


def train_names(cfg) -> tuple[list[str], list[str]]:
    """DATASETS.TRAIN_LABELED and TRAIN_UNLABELED with braces filled from DATASETS.SPLIT.

    Raises:
        ConfigError: for braces that are no key of DATASETS.SPLIT.
    """
    split = cfg.DATASETS.SPLIT
    values = {"FAMILY": split.FAMILY, "PERCENT": f"{split.PERCENT:g}", "FOLD": split.FOLD}
    labeled = _filled(KEYS[LABELED], cfg.DATASETS.TRAIN_LABELED, values)
    return labeled, _filled(KEYS[UNLABELED], cfg.DATASETS.TRAIN_UNLABELED, values)


def labeled_dicts(names: Sequence[str], *, filter_empty: bool = True) -> list[dict]:
    """Labeled images with the annotations that can be learned from, but for masks and keypoints.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        filter_empty: drop images without a box.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or nothing is left.
    """
    dicts = [d for reading in _labeled(names) for d in reading.dicts]
    return [_boxes_only(d) for d in dicts if not filter_empty or _has_box(d)]


def unlabeled_dicts(
    names: Sequence[str],
    *,
    hidden_labels: bool = True,
    label_source: str = TEACHER,
    classes: Sequence[str] = (),
) -> list[dict]:
    """Unlabeled images, without annotations that training could read unless it asks for them.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        hidden_labels: keep annotations as held-out ground truth, to measure pseudo boxes with, see
            :func:`~soft_teacher.data.unlabeled_annotations.hold_out_ground_truth`.
        label_source: with "dataset" annotations are the pseudo boxes instead, see
            :func:`~soft_teacher.data.unlabeled_annotations.take_pseudo_labels`.
        classes: of the labeled images; annotations of other classes are not kept.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or it is empty; if there is no
            annotation where they are asked for.
    """
    dicts: list[dict] = []
    for where, reading in _unlabeled(names, label_source):
        part = reading.dicts_to_measure()
        if label_source == GIVEN:
            part = take_pseudo_labels(where, part)
        keep = hidden_labels and not reading.faults and _are_comparable(reading, classes)
        dicts += hold_out_ground_truth(part, keep=keep)
    return dicts


def ground_truth_dicts(
    key: str, name: str, *, num_classes: int, classes_key: str = CLASSES
) -> list[dict]:
    """The images of a dataset whose objects are known, also where training does not see them.

    Args:
        key, name: see :func:`dataset_reading`.
        num_classes, classes_key: see :func:`check_datasets`.

    Returns:
        dicts with ``annotations``; images without known ground truth are left out.

    Raises:
        ConfigError: the dataset cannot be read, has no ground truth or other classes, or image
            files are missing.
    """
    where = f"{key} '{name}'"
    reading = dataset_reading(key, name)
    check_images(where, reading)
    check_classes({key: [name]}, num_classes, classes_key)
    found = [
        (d, d.get("annotations", d.get(HIDDEN_ANNOTATIONS))) for d in reading.dicts_to_measure()
    ]
    if not any(annotations for _, annotations in found):
        raise ConfigError(
            f"{where} has no ground truth: name a dataset that has, or annotations and their "
            "images as FILE.json@FOLDER"
        )
    return [{**d, "annotations": known} for d, known in found if known is not None]


@loaded_once()
def check_datasets(
    *,
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    test: Sequence[str],
    num_classes: int,
    label_source: str = TEACHER,
    classes_key: str = CLASSES,
) -> list[str]:
    """Checks that all datasets can be used in their roles and have the model's classes.

    Args:
        labeled, unlabeled, test: registered datasets, or paths; any may be empty.
        num_classes: of the model.
        label_source: where pseudo boxes come from, "teacher" or "dataset" (precomputed).
        classes_key: what messages call the model's number of classes.

    Returns:
        warnings: annotations that are left out, classes without a box, images that are in more
        than one of the three.

    Raises:
        ConfigError: for data that cannot be used, with file, annotation and fix; for a number of
            classes that is not the model's, or for categories that differ between datasets.
    """
    found: dict[str, dict[str, Reading]] = {
        key: {name: dataset_reading(key, name) for name in names}
        for key, names in zip(ROLES.values(), (labeled, unlabeled, test))
    }
    classes = class_names(list(labeled))
    boxless = boxless_classes(list(found[KEYS[LABELED]].values()))
    with_classes = [key for key in found if key != KEYS[UNLABELED] or label_source == GIVEN]
    check_classes(
        {key: list(found[key]) for key in with_classes}, num_classes, classes_key, boxless
    )
    if labeled:
        _labeled(labeled)
    if unlabeled:
        _unlabeled(unlabeled, label_source)
    for name, reading in found[TEST].items():
        check_ground_truth(f"{TEST} '{name}'", reading)
        prepare_evaluation(name)
    for key in with_classes:
        for name, reading in found[key].items():
            check_class_numbers(f"{key} '{name}'", reading, num_classes, classes_key)
    return [
        *_warnings(found, with_classes, classes),
        *placeholder_hint(KEYS[LABELED], boxless, classes, classes_key),
        *_shared_images(found),
    ]


@loaded_once()
def describe_datasets(
    *, labeled: Sequence[str], unlabeled: Sequence[str], test: Sequence[str]
) -> list[str]:
    """A line for the log about each dataset: its images and what becomes of its annotations."""
    found = [
        (key, name, dataset_reading(key, name).balance)
        for key, names in zip(ROLES.values(), (labeled, unlabeled, test))
        for name in names
    ]
    return [
        f"{key} '{name}': {f'{b.images:,} images' if key == KEYS[UNLABELED] else b}"
        for key, name, b in found
    ]


def dataset_reading(key: str, name: str) -> Reading:
    """One dataset, read and checked.

    Args:
        key: config key that names it, for the messages.
        name: a registered dataset, or a path.

    Raises:
        ConfigError: it is not registered, or cannot be read.
    """
    if not register_path(name):
        hint = missing_dataset_hint(name) or did_you_mean(name, DatasetCatalog.list(), quote="'")
        raise ConfigError(
            f"{key} names '{name}', which is neither a registered dataset nor an existing path"
            f"{hint}"
        )
    try:
        return load_reading(name)
    except Exception as error:  # a malformed file can fail anywhere in its loader
        reason = str(error) if isinstance(error, ConfigError) else one_line(error)
        raise ConfigError(f"{key} '{name}' cannot be read: {reason}") from error


def _labeled(names: Sequence[str]) -> list[Reading]:
    key, names = KEYS[LABELED], _some(KEYS[LABELED], names)
    readings = [dataset_reading(key, name) for name in names]
    for name, reading in zip(names, readings):
        check_labels(f"{key} '{name}'", reading)
    if not any(reading.balance.learned for reading in readings):
        raise ConfigError(
            f"{key} {_joined(names)}: no image has an annotation; name a dataset with labels, or "
            "annotations and their images as FILE.json@FOLDER"
        )
    return readings


def _unlabeled(names: Sequence[str], label_source: str) -> list[tuple[str, Reading]]:
    """Names for messages, and the datasets."""
    key = KEYS[UNLABELED]
    found = [(f"{key} '{name}'", dataset_reading(key, name)) for name in _some(key, names)]
    for where, reading in found:
        (check_given if label_source == GIVEN else check_images)(where, reading)
    return found


def _some(key: str, names: Sequence[str]) -> list[str]:
    names = as_list(names)
    if not names:
        raise ConfigError(f"{key} is empty: name at least one dataset")
    return names


def _warnings(found: dict, with_classes: Sequence[str], classes: Sequence[str]) -> list[str]:
    """What is left out of each dataset."""
    lines = []
    for key, readings in found.items():
        for name, reading in readings.items():
            where = f"{key} '{name}'"
            lines += [f"{where}: {note}" for note in reading.notes]
            if key in with_classes:
                lines += label_warnings(where, reading, test=key == TEST)
            elif reading.balance.read and not _are_comparable(reading, classes):
                lines.append(
                    f"{where} has other classes than {KEYS[LABELED]}: its annotations are not "
                    "looked at, so pseudo boxes are not measured on its images"
                )
    return lines


def _are_comparable(reading: Reading, classes: Sequence[str]) -> bool:
    """Whether annotations are of these classes, as far as both are known."""
    return reading.classes is None or not classes or list(reading.classes) == list(classes)


def _filled(key: str, names: Sequence[str], values: dict) -> list[str]:
    try:
        return [name.format(**values) for name in names]
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"{key} {_joined(names)}: braces are filled with {', '.join(values)} of "
            f"DATASETS.SPLIT, there is no {error}"
        ) from error


def _shared_images(found: dict[str, dict[str, Reading]]) -> list[str]:
    """A line for each two keys that name the same image files."""
    files = {
        key: {d["file_name"] for reading in readings.values() for d in reading.dicts}
        for key, readings in found.items()
    }
    paths = {key: {os.path.abspath(f) for f in names} for key, names in files.items()}
    warnings = []
    for one, other in itertools.combinations(paths, 2):
        shared = sorted(paths[one] & paths[other])
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


def as_list(names: Sequence[str]) -> list[str]:
    """Names as a list; a LazyConfig may give one name instead."""
    return [names] if isinstance(names, str) else list(names)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in as_list(names))
