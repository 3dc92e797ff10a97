"""Whether annotations have the masks that a detector learns from or is measured with."""

from collections.abc import Set

import numpy as np

from ...utils.errors import ConfigError
from ..masks import SEGMENTATION, MaskFault, image_size, mask_fault
from .reading.balance import MEASURED, Reason
from .reading.reader import Reading

__all__ = ["check_given_masks", "check_label_masks", "check_measured_masks"]

BOXES_ONLY = "set TwoStreamLoader.masks to False"
NO_POLYGON = "have an RLE, which is no polygon"


def check_label_masks(where: str, reading: Reading, mask_format: str) -> None:
    """Raises ConfigError unless all labels have a mask that can be learned in this format.

    Args:
        where: names the dataset in messages.
        mask_format: "polygon" or "bitmask".
    """
    faults = _faults(reading, polygons=mask_format == "polygon")
    _refuse(where, reading, faults, BOXES_ONLY)


def check_given_masks(where: str, reading: Reading) -> None:
    """Raises ConfigError if some precomputed pseudo labels have a mask and others have not."""
    faults = _faults(reading, {Reason.PIXEL})
    if len(faults.get(MaskFault.MISSING, ())) < _used(reading, {Reason.PIXEL}).sum():
        _refuse(where, reading, faults, BOXES_ONLY)


def check_measured_masks(where: str, reading: Reading) -> None:
    """Raises ConfigError unless all ground truth of an evaluation has a mask, crowds included."""
    _refuse(where, reading, _faults(reading, MEASURED), "evaluate on a dataset with masks")


def _used(reading: Reading, also: Set[Reason]) -> np.ndarray:
    return (reading.checked.reasons < 0) | reading.checked.are(*also)


def _faults(
    reading: Reading, also: Set[Reason] = frozenset(), *, polygons: bool = False
) -> dict[str, list[int]]:
    """Which annotations have which fault, of those to learn from and of some reasons."""
    faults: dict[str, list[int]] = {}
    for n in np.flatnonzero(_used(reading, also)).tolist():
        found = reading.checked.annotations[n].get(SEGMENTATION)
        fault: str | None = mask_fault(found, image_size(reading.whole[reading.checked.places[n]]))
        if fault is None and polygons and not isinstance(found, (list, tuple)):
            fault = NO_POLYGON
        if fault:
            faults.setdefault(fault, []).append(n)
    return faults


def _refuse(where: str, reading: Reading, faults: dict[str, list[int]], otherwise: str) -> None:
    for fault, numbers in faults.items():
        fix = f"{'add masks' if fault == MaskFault.MISSING else 'correct them'}, or {otherwise}"
        if fault == NO_POLYGON:
            fix = "set TwoStreamLoader.mask_format to 'bitmask'"
        raise ConfigError(
            f"{where}: {len(numbers)} annotations {fault}, first {_place(reading, numbers[0])}: "
            f"{fix}"
        )


def _place(reading: Reading, number: int) -> str:
    """The file of an annotation and what it is called there."""
    places, ids = reading.checked.places, reading.records.ids
    file = reading.whole[places[number]]["file_name"]
    name = number - np.searchsorted(places, places[number]) + 1 if ids is None else ids[number]
    return f"{file}, annotation {'' if ids is None else 'id '}{name}"
