"""All datasets of a run at once: whether they can be used together, and what to say of them."""

import itertools
import os
from collections.abc import Sequence

from ..roles import KEYS, LABELED, ROLES, TEST, UNLABELED
from .class_checks import (
    CLASSES,
    boxless_classes,
    check_class_numbers,
    check_classes,
    class_names,
    placeholder_hint,
)
from .dataset_dicts import (
    GIVEN,
    TEACHER,
    are_comparable,
    dataset_reading,
    labeled_readings,
    unlabeled_readings,
)
from .evaluated import is_coco_evaluated, prepare_evaluation
from .loading import loaded_once
from .mask_checks import check_measured_masks
from .reading.reader import Reading
from .role_checks import check_ground_truth, label_warnings

__all__ = ["check_datasets", "describe_datasets"]


@loaded_once()
def check_datasets(
    *,
    labeled: Sequence[str],
    unlabeled: Sequence[str],
    test: Sequence[str],
    num_classes: int,
    label_source: str = TEACHER,
    classes_key: str = CLASSES,
    mask_format: str | None = None,
) -> list[str]:
    """Checks that all datasets can be used in their roles and have the model's classes.

    Args:
        labeled, unlabeled, test: registered datasets, or paths; any may be empty.
        num_classes: of the model.
        label_source: where pseudo boxes come from, "teacher" or "dataset" (precomputed).
        classes_key: what messages call the model's number of classes.
        mask_format: of the masks to learn, "polygon" or "bitmask"; None if none are.

    Returns:
        warnings: annotations that are left out, classes without a box, ground truth without
        masks, images that are in more than one of the three.

    Raises:
        ConfigError: for data that cannot be used, with file, annotation and fix; for masks that
            are wanted and missing, or cannot be used; for a number of classes that is not the
            model's, or for categories that differ between datasets.
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
        labeled_readings(labeled, mask_format)
    if unlabeled:
        unlabeled_readings(unlabeled, label_source, masks=mask_format is not None)
    unmeasured = []
    for name, reading in found[TEST].items():
        # A run needs a result; an evaluation alone may be for a server.
        unmeasured += check_ground_truth(f"{TEST} '{name}'", reading, needed=bool(labeled))
        if mask_format is not None and is_coco_evaluated(name):
            unmeasured += check_measured_masks(f"{TEST} '{name}'", reading)
        prepare_evaluation(name)
    for key in with_classes:
        for name, reading in found[key].items():
            check_class_numbers(f"{key} '{name}'", reading, num_classes, classes_key)
    return [
        *_warnings(found, with_classes, classes),
        *unmeasured,
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


def _warnings(found: dict, with_classes: Sequence[str], classes: Sequence[str]) -> list[str]:
    """What is left out of each dataset."""
    lines = []
    for key, readings in found.items():
        for name, reading in readings.items():
            where = f"{key} '{name}'"
            lines += [f"{where}: {note}" for note in reading.notes]
            if key in with_classes:
                lines += label_warnings(where, reading, test=key == TEST)
            elif reading.balance.read and not are_comparable(reading, classes):
                lines.append(
                    f"{where} has other classes than {KEYS[LABELED]}: its annotations are not "
                    "looked at, so pseudo boxes are not measured on its images"
                )
    return lines


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
