"""Whether annotations have the masks that a detector learns from or is measured with."""

from collections.abc import Set

import numpy as np

from ...utils.errors import ConfigError
from ..masks import SEGMENTATION, MaskFault, image_size, mask_fault
from .reading.balance import MEASURED, Reason
from .reading.reader import Reading

__all__ = ["check_given_masks", "check_label_masks", "check_measured_masks"]

NO_POLYGON = "have an RLE, which is no polygon"
# Without these an evaluation measures boxes alone.
ABSENT = (MaskFault.MISSING, MaskFault.POINTS)


def check_label_masks(where: str, reading: Reading, mask_format: str) -> None:
    """Raises ConfigError unless all labels have a mask that can be learned in this format.

    Args:
        where: names the dataset in messages.
        mask_format: "polygon" or "bitmask".
    """
    _refuse(where, reading, _faults(reading, polygons=mask_format == "polygon"))


def check_given_masks(where: str, reading: Reading) -> None:
    """Raises ConfigError if some precomputed pseudo labels have a mask and others have not."""
    faults = _faults(reading, {Reason.PIXEL})
    if len(faults.get(MaskFault.MISSING, ())) < _used(reading, {Reason.PIXEL}).sum():
        _refuse(where, reading, faults)


def check_measured_masks(where: str, reading: Reading) -> list[str]:
    """Checks the masks of an evaluation's ground truth, crowds included.

    Returns:
        a warning if some are missing.

    Raises:
        ConfigError: one is faulty.
    """
    faults = _faults(reading, MEASURED)
    _refuse(where, reading, {f: found for f, found in faults.items() if f not in ABSENT})
    return [
        f"{where}: {_what(reading, fault, faults[fault])}: boxes alone are evaluated"
        for fault in ABSENT
        if fault in faults
    ][:1]


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


def _refuse(where: str, reading: Reading, faults: dict[str, list[int]]) -> None:
    for fault, numbers in faults.items():
        mend = "add masks" if fault == MaskFault.MISSING else "correct them"
        fix = f"{mend}, or set TwoStreamLoader.masks to False"
        if fault == NO_POLYGON:
            fix = "set TwoStreamLoader.mask_format to 'bitmask'"
        raise ConfigError(f"{where}: {_what(reading, fault, numbers)}: {fix}")


def _what(reading: Reading, fault: str, numbers: list[int]) -> str:
    """How many annotations have a fault, and the first."""
    places, ids, first = reading.checked.places, reading.records.ids, numbers[0]
    file = reading.whole[places[first]]["file_name"]
    name = first - np.searchsorted(places, places[first]) + 1 if ids is None else f"id {ids[first]}"
    return f"{len(numbers)} annotations {fault}, first {file}, annotation {name}"
