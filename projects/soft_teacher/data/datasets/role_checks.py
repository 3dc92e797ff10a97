"""What images, labels and test sets must be, each in its role.

``where`` names the dataset in messages.
"""

from collections.abc import Iterable

from ...utils.errors import ConfigError
from ..unlabeled_annotations import take_pseudo_labels
from .reading.balance import Reason
from .reading.faults import Fault, Kind
from .reading.reader import Reading

__all__ = ["check_given", "check_images", "check_labels", "check_ground_truth", "label_warnings"]

BOX = "a box is [x, y, width, height] in pixels, with an area inside its image"


def check_images(where: str, reading: Reading) -> None:
    """Raises ConfigError unless a dataset has images, and all of their files are there."""
    _refuse(where, reading.faults, {Kind.FILE_NAME})
    if not reading.dicts:
        raise ConfigError(f"{where} has no images: remove it or fill it")
    if reading.missing:
        raise ConfigError(
            f"{where}: {len(reading.missing)} image files are missing, first {reading.missing[0]}: "
            "check the image folder, or $DETECTRON2_DATASETS"
        )


def check_labels(where: str, reading: Reading) -> None:
    """Raises ConfigError if a dataset is faulty, or if it has labels and none can be learned."""
    check_images(where, reading)
    _refuse(where, reading.faults, set(Kind) - {Kind.REPEATED})
    if reading.balance.read and not reading.balance.learned:
        raise ConfigError(
            f"{where}: none of its {reading.balance.read} annotations can be learned from: "
            f"{_reasons(reading)}: {BOX}{_crowd_advice(reading)}"
        )


def check_given(where: str, reading: Reading) -> None:
    """Raises ConfigError unless a dataset has pseudo labels, and no mistake in them."""
    check_labels(where, reading)
    take_pseudo_labels(where, reading.dicts_to_measure())
    for reason in (Reason.IMAGE, Reason.CLASS, Reason.NUMBERS):
        if reading.balance.dropped[reason]:
            raise ConfigError(
                f"{where}: {reading.balance.dropped[reason]} annotations are {reason}, first "
                f"{reading.balance.first[reason].what}: remove them"
            )


def check_ground_truth(where: str, reading: Reading, *, needed: bool = True) -> list[str]:
    """Checks that a detector can be evaluated on a dataset.

    Args:
        needed: refuse a dataset without any annotations.

    Returns:
        a warning for such a dataset.

    Raises:
        ConfigError: it cannot, with the reason.
    """
    check_images(where, reading)
    _refuse(where, reading.faults, set(Kind))
    balance = reading.balance
    if not balance.read and not needed:
        return [
            f"{where} has no annotations: nothing is measured, detections are written for a server"
        ]
    if not balance.read:
        raise ConfigError(
            f"{where} has no labels to evaluate with, no ground truth: name a dataset that has, or "
            "annotations and their images as FILE.json@FOLDER"
        )
    if not balance.measured - balance.dropped[Reason.CROWD]:
        raise ConfigError(
            f"{where} has no ground truth, none of its {balance.read} annotations can be evaluated "
            f"with: {_reasons(reading)}: {BOX}{_crowd_advice(reading)}"
        )
    return []


def label_warnings(where: str, reading: Reading, *, test: bool = False) -> list[str]:
    """Warnings about a dataset that is learned from, or with ``test`` evaluated on."""
    faulty = reading.balance.faulty(test=test)
    if not faulty:
        return []
    use = "evaluated with" if test else "learned from"
    return [
        f"{where}: {sum(faulty.values())} of {reading.balance.read} annotations cannot be {use} "
        f"and are left out: {_reasons(reading, faulty)}"
    ]


def _refuse(where: str, faults: Iterable[Fault], kinds: set[Kind]) -> None:
    for fault in faults:
        if fault.kind in kinds:
            raise ConfigError(f"{where}: {fault.line}")


def _reasons(reading: Reading, reasons: Iterable[Reason] = tuple(Reason)) -> str:
    """Each reason with its count and an example."""
    dropped, first = reading.balance.dropped, reading.balance.first
    return "; ".join(f"{dropped[r]} {r} (first {first[r].what})" for r in reasons if dropped[r])


def _crowd_advice(reading: Reading) -> str:
    crowds = reading.balance.dropped[Reason.CROWD]
    return "; a single object has iscrowd 0" if crowds else ""
