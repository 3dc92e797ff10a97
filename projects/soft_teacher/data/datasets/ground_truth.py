"""Images whose objects are known, to measure a detector on."""

from typing import List

from ...utils.errors import ConfigError
from ..unlabeled_annotations.held_out import ANNOTATIONS
from .class_checks import check_classes
from .dataset_dicts import dataset_reading
from .role_checks import check_images

__all__ = ["truth_dicts"]


def truth_dicts(
    key: str,
    name: str,
    *,
    num_classes: int,
    classes_key: str = "the model's number of classes",
) -> List[dict]:
    """The images of a dataset whose objects are known, also where training hides them.

    Args:
        key: config key or option that names the dataset, for the messages.
        name: a registered dataset, or a path (:mod:`.paths`).
        num_classes, classes_key: see :func:`.dataset_dicts.check_datasets`.

    Returns:
        dicts with ``annotations``; images of unknown truth are left out.

    Raises:
        ConfigError: the dataset cannot be read, has no ground truth or other classes, or image
            files are missing.
    """
    where = f"{key} '{name}'"
    reading = dataset_reading(key, name)
    check_images(where, reading)
    check_classes({key: [name]}, num_classes, classes_key)
    dicts = [_uncovered(d) for d in reading.dicts_to_measure()]
    if not any(d.get("annotations") for d in dicts):
        raise ConfigError(
            f"{where} has no ground truth: name a dataset that has, or annotations and their "
            "images as FILE.json@FOLDER"
        )
    return [d for d in dicts if "annotations" in d]


def _uncovered(dataset_dict: dict) -> dict:
    truth = dataset_dict.get("annotations", dataset_dict.get(ANNOTATIONS))
    return dataset_dict if truth is None else {**dataset_dict, "annotations": truth}
