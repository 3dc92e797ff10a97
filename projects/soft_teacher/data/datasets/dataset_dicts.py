"""Datasets as lists of dicts, with every mistake in them reported in one line."""

from collections.abc import Callable, Sequence

from detectron2.data import DatasetCatalog

from ...utils.errors import ConfigError, did_you_mean, one_line
from ..masks import SEGMENTATION, packed
from ..roles import KEYS, LABELED, UNLABELED
from ..unlabeled_annotations import (
    HIDDEN_ANNOTATIONS,
    LABEL_SOURCES,
    hold_out_ground_truth,
    take_pseudo_labels,
)
from .builtin import missing_dataset_hint
from .class_checks import CLASSES, check_classes, class_names
from .loading import load_reading
from .mask_checks import check_given_masks, check_label_masks
from .paths import register_path
from .reading.reader import Reading
from .role_checks import check_given, check_images, check_labels

__all__ = [
    "GIVEN",
    "TEACHER",
    "are_comparable",
    "as_list",
    "class_names",
    "dataset_reading",
    "ground_truth_dicts",
    "labeled_dicts",
    "labeled_readings",
    "train_names",
    "unlabeled_dicts",
    "unlabeled_readings",
]

TEACHER, GIVEN = LABEL_SOURCES
# What DatasetMapper drops where it makes neither: five sixths of COCO's annotations.
MASKS = (SEGMENTATION, "keypoints")


def train_names(cfg) -> tuple[list[str], list[str]]:
    """DATASETS.TRAIN_LABELED and TRAIN_UNLABELED with braces filled from DATASETS.SPLIT.

    Raises:
        ConfigError: for braces that are no key of DATASETS.SPLIT.
    """
    split = cfg.DATASETS.SPLIT
    values = {"FAMILY": split.FAMILY, "PERCENT": f"{split.PERCENT:g}", "FOLD": split.FOLD}
    labeled = _filled(KEYS[LABELED], cfg.DATASETS.TRAIN_LABELED, values)
    return labeled, _filled(KEYS[UNLABELED], cfg.DATASETS.TRAIN_UNLABELED, values)


def labeled_dicts(
    names: Sequence[str],
    *,
    filter_empty: bool = True,
    mask_format: str | None = None,
    locate: Callable[[list[list[dict]]], list[list[dict]]] = list,
) -> list[dict]:
    """Labeled images with the annotations that can be learned from, but for keypoints.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        filter_empty: drop images without a box.
        mask_format: of the masks to learn, "polygon" or "bitmask"; None drops them.
        locate: adds further files to the images of each dataset.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or nothing is left; if masks are
            to be learned, and an annotation has none that can be.
    """
    form = _boxes_only if mask_format is None else _with_masks
    datasets = [
        [form(d) for d in reading.dicts if not filter_empty or _has_box(d)]
        for reading in labeled_readings(names, mask_format)
    ]
    return [d for dicts in locate(datasets) for d in dicts]


def unlabeled_dicts(
    names: Sequence[str],
    *,
    hidden_labels: bool = True,
    label_source: str = TEACHER,
    classes: Sequence[str] = (),
    masks: bool = False,
) -> list[dict]:
    """Unlabeled images, without annotations that training could read unless it asks for them.

    Args:
        names: registered datasets, or paths (:mod:`.paths`).
        hidden_labels: keep annotations as held-out ground truth, to measure pseudo boxes with, see
            :func:`~soft_teacher.data.unlabeled_annotations.hold_out_ground_truth`.
        label_source: with "dataset" annotations are the pseudo boxes instead, see
            :func:`~soft_teacher.data.unlabeled_annotations.take_pseudo_labels`.
        classes: of the labeled images; annotations of other classes are not kept.
        masks: keep the masks of a dataset's annotations as well, where all have one.

    Raises:
        ConfigError: if a dataset or one of its files is missing, or it is empty; if there is no
            annotation where they are asked for, or only some have a mask.
    """
    dicts: list[dict] = []
    for where, reading in unlabeled_readings(names, label_source, masks=masks):
        part = reading.dicts_to_measure()
        if label_source == GIVEN:
            part = take_pseudo_labels(where, part, masks=masks)
        keep = hidden_labels and not reading.faults and are_comparable(reading, classes)
        dicts += hold_out_ground_truth(part, keep=keep, masks=masks)
    return dicts


def ground_truth_dicts(
    key: str, name: str, *, num_classes: int, classes_key: str = CLASSES
) -> list[dict]:
    """The images of a dataset whose objects are known, also where training does not see them.

    Args:
        key, name: see :func:`dataset_reading`.
        num_classes, classes_key: see :func:`.dataset_checks.check_datasets`.

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


def labeled_readings(names: Sequence[str], mask_format: str | None = None) -> list[Reading]:
    """The labeled datasets. Raises ConfigError unless they can be learned from.

    Args:
        mask_format: see :func:`labeled_dicts`.
    """
    key, names = KEYS[LABELED], _some(KEYS[LABELED], names)
    readings = [dataset_reading(key, name) for name in names]
    for name, reading in zip(names, readings):
        check_labels(f"{key} '{name}'", reading)
        if mask_format is not None:
            check_label_masks(f"{key} '{name}'", reading, mask_format)
    if not any(reading.balance.learned for reading in readings):
        raise ConfigError(
            f"{key} {_joined(names)}: no image has an annotation; name a dataset with labels, or "
            "annotations and their images as FILE.json@FOLDER"
        )
    return readings


def unlabeled_readings(
    names: Sequence[str], label_source: str, *, masks: bool = False
) -> list[tuple[str, Reading]]:
    """Names for messages, and the datasets. Raises ConfigError unless they can be used.

    Args:
        label_source, masks: see :func:`unlabeled_dicts`.
    """
    key = KEYS[UNLABELED]
    found = [(f"{key} '{name}'", dataset_reading(key, name)) for name in _some(key, names)]
    for where, reading in found:
        (check_given if label_source == GIVEN else check_images)(where, reading)
        if masks and label_source == GIVEN:
            check_given_masks(where, reading)
    return found


def _some(key: str, names: Sequence[str]) -> list[str]:
    names = as_list(names)
    if not names:
        raise ConfigError(f"{key} is empty: name at least one dataset")
    return names


def are_comparable(reading: Reading, classes: Sequence[str]) -> bool:
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


def _has_box(dataset_dict: dict) -> bool:
    annotations = dataset_dict.get("annotations", ())
    return any(not a.get("iscrowd", 0) for a in annotations)


def _boxes_only(dataset_dict: dict) -> dict:
    annotations = dataset_dict.get("annotations")
    if not any(key in a for a in annotations or () for key in MASKS):
        return dataset_dict
    return {**dataset_dict, "annotations": [_box(a) for a in annotations]}


def _with_masks(dataset_dict: dict) -> dict:
    """The same as :func:`_boxes_only`, and the masks of single objects as streams carry them."""
    annotations = dataset_dict.get("annotations")
    if not annotations:
        return dataset_dict
    masked = [
        _box(a) if a.get("iscrowd", 0) else {**_box(a), SEGMENTATION: packed(a[SEGMENTATION])}
        for a in annotations
    ]
    return {**dataset_dict, "annotations": masked}


def _box(annotation: dict) -> dict:
    return {k: v for k, v in annotation.items() if k not in MASKS}


def as_list(names: Sequence[str]) -> list[str]:
    """Names as a list; a LazyConfig may give one name instead."""
    return [names] if isinstance(names, str) else list(names)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(f"'{n}'" for n in as_list(names))
