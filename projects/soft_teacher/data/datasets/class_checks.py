"""Classes that a run's datasets and its model must have in common."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data import MetadataCatalog

from ...utils.errors import ConfigError
from .reading.reader import Reading

__all__ = [
    "CLASSES",
    "boxless_classes",
    "check_class_numbers",
    "check_classes",
    "class_names",
    "placeholder_hint",
]

CLASSES = "the model's number of classes"


def class_names(names: Sequence[str]) -> list[str]:
    """Classes of loaded datasets, by class number; empty if none of them names any."""
    names = [names] if isinstance(names, str) else names
    found = (MetadataCatalog.get(name).get("thing_classes") for name in names)
    return next((list(classes) for classes in found if classes), [])


def check_classes(
    roles: Mapping[str, Sequence[str]],
    num_classes: int,
    classes_key: str = CLASSES,
    boxless: Sequence[str] = (),
) -> None:
    """Raises ConfigError unless all loaded datasets have these classes, and the same.

    The advice holds for all of them at once.

    Args:
        roles: config key or option -> names of the datasets.
        num_classes: of the model.
        classes_key: what messages call that.
        boxless: classes of which no dataset has a box.
    """
    classes = {
        f"{key} '{name}'": tuple(class_names([name]))
        for key, names in roles.items()
        for name in names
        if class_names([name])
    }
    _check_same(classes, boxless)
    for where, found in classes.items():
        if len(found) != num_classes:
            raise ConfigError(
                f"{where} has {len(found)} classes but {classes_key} is {num_classes}: set it to "
                f"{len(found)}{_placeholder(found, boxless)}"
            )


def check_class_numbers(
    where: str, reading: Reading, num_classes: int, classes_key: str = CLASSES
) -> None:
    """Raises ConfigError if a dataset without names of classes has a number beyond the model's."""
    if reading.classes:
        return
    numbers = [a["category_id"] for d in reading.dicts for a in d.get("annotations") or ()]
    if max(numbers, default=0) >= num_classes:
        raise ConfigError(
            f"{where} has a box of class {max(numbers)} but {classes_key} is {num_classes}: set it "
            f"to {max(numbers) + 1}"
        )


def boxless_classes(readings: Sequence[Reading]) -> list[str]:
    """Classes of the first dataset that names any, of which none of the datasets has a box."""
    classes = next((reading.classes for reading in readings if reading.classes), [])
    counts = np.zeros(len(classes), dtype=int)
    for reading in readings:
        if reading.classes == classes:
            kept = (reading.checked.reasons < 0).tolist()
            annotations = itertools.compress(reading.checked.annotations, kept)
            numbers = np.array([a["category_id"] for a in annotations], dtype=int)
            counts += np.bincount(numbers, minlength=len(classes))
    return [name for name, count in zip(classes, counts) if not count]


def placeholder_hint(
    where: str, boxless: Sequence[str], classes: Sequence[str], classes_key: str = CLASSES
) -> list[str]:
    """A hint at the category that some exports put first, which represents no object."""
    if not boxless or boxless[0] != classes[0]:
        return []
    return [
        f"{where}: there is no box of '{classes[0]}', the first category: if it is no class, as in "
        f"some exports, remove it from the categories of all datasets and lower {classes_key} by 1"
    ]


def _check_same(classes: dict[str, tuple], boxless: Sequence[str]) -> None:
    items = list(classes.items())
    for where, found in items[1:]:
        first, wanted = items[0]
        if found == wanted:
            continue
        if len(found) != len(wanted):
            extra = sorted(set(found) ^ set(wanted))
            what = f"{len(found)} and {len(wanted)} classes, one without {', '.join(extra[:3])}"
            hint = _placeholder(extra, boxless)
        else:
            mine, other = next((a, b) for a, b in zip(found, wanted) if a != b)
            what, hint = f"'{mine}' is where the other has '{other}'", ""
        raise ConfigError(
            f"{where} and {first} differ in their categories ({what}): give them the same "
            f"categories in the same order{hint}"
        )


def _placeholder(classes, boxless: Sequence[str]) -> str:
    """A hint at categories that some exports add, which represent no object."""
    found = [name for name in boxless if name in classes]
    if not found:
        return ""
    return f", or remove '{found[0]}', which has no box, from the categories if it is no class"
