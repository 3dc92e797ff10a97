"""The reader of annotations of every format: checks, normalises, and counts what it leaves out."""

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from ....utils.checks import shown
from ...images.sizes import image_sizes
from .annotation_checks import REASONS, Checked, check_annotations
from .balance import MEASURED, Balance, LeftOut, Reason
from .faults import Fault, box_faults, record_faults
from .file_names import existing_file
from .raw_dataset import RawDataset
from .records import Records, records_of

__all__ = ["Reading", "read", "read_records"]

# Of an annotation that is left out.
SHOWN = ("bbox", "iscrowd")


@dataclass
class Reading:
    """A dataset that was read and checked.

    Attributes:
        dicts: in Detectron2's format, with crowds and the annotations that can be learned from.
        whole: the same with all annotations, as they were read.
        classes: names by class number; None if they are not known.
        id_map: category id -> class number.
        balance: of the annotations; crowds count as left out.
        faults: mistakes of the whole dataset.
        notes: messages for the user, a line each.
        missing: image files that are not there.
        records, checked: what was read, for the evaluation's ground truth.
    """

    dicts: list[dict]
    whole: list[dict] = field(repr=False)
    classes: list[str] | None
    id_map: dict
    balance: Balance
    faults: list[Fault]
    notes: list[str]
    missing: list[str]
    records: Records = field(repr=False)
    checked: Checked = field(repr=False)

    def dicts_to_measure(self) -> list[dict]:
        """The dicts with what evaluations and precomputed pseudo labels may have as well."""
        return _with_annotations(self.whole, self.checked, MEASURED)

    @property
    def is_unchanged(self) -> bool:
        """Whether the dicts are those that were read."""
        return all(a is b for a, b in zip(self.dicts, self.records.dicts))


def read(raw: RawDataset) -> Reading:
    """Checks and normalises a dataset of any format."""
    return read_records(records_of(raw))


def read_records(records: Records) -> Reading:
    """Checks and normalises dataset dicts, which stay as they are."""
    dicts, missing, notes = _with_existing_files(records.dicts, records.folder)
    dicts = _with_sizes(dicts)
    checked = check_annotations(dicts, None if records.classes is None else len(records.classes))
    left_out = [*_left_out(dicts, checked, records.ids), *records.orphans]
    singles = ~checked.are(*set(Reason) - {Reason.PIXEL}) & checked.sided
    return Reading(
        dicts=_with_annotations(dicts, checked, {Reason.CROWD}),
        whole=dicts,
        classes=records.classes,
        id_map=records.id_map,
        balance=Balance(len(dicts), len(checked.annotations) + len(records.orphans), left_out),
        faults=[
            *records.faults,
            *record_faults(dicts),
            *box_faults(checked.boxes[singles], checked.sizes[singles]),
        ],
        notes=records.notes + notes,
        missing=missing,
        records=records,
        checked=checked,
    )


def _with_existing_files(dicts: Sequence[dict], folder: str):
    """Dicts whose files were looked for under other names, files still missing, and notes."""
    dicts, missing, found = list(dicts), [], []
    for place, record in enumerate(dicts):
        file = record.get("file_name", "without file_name")
        if os.path.isfile(file):
            continue
        name = file.removeprefix(os.path.join(folder, "")) if folder else file
        other = existing_file(name, folder)
        if other is None:
            missing.append(file)
        else:
            dicts[place] = {**record, "file_name": other}
            found.append((name, other))
    notes = [
        f"{len(found)} images were found under other names, first '{name}' as {other}"
        for name, other in found[:1]
    ]
    return dicts, missing, notes


def _with_sizes(dicts: list[dict]) -> list[dict]:
    """Annotated images without a size get that of their files, as far as these can be read."""
    unknown = [
        place
        for place, d in enumerate(dicts)
        if d.get("annotations") and not {"height", "width"} <= d.keys()
    ]
    if not unknown:
        return dicts
    dicts = list(dicts)
    sizes = image_sizes([dicts[place]["file_name"] for place in unknown])
    for place, (height, width) in zip(unknown, sizes.tolist()):
        if height > 0:
            dicts[place] = {**dicts[place], "height": height, "width": width}
    return dicts


def _left_out(dicts: Sequence[dict], checked: Checked, ids: list | None) -> list[LeftOut]:
    """What is not learned from, crowds included, in order."""
    numbers = np.flatnonzero(checked.reasons >= 0)
    firsts = np.searchsorted(checked.places, checked.places[numbers])
    found = []
    for n, first in zip(numbers.tolist(), firsts.tolist()):
        file = dicts[checked.places[n]]["file_name"]
        name = f"annotation {n - first + 1}" if ids is None else f"annotation id {ids[n]}"
        values = checked.originals[n]
        box = " ".join(f"{key} {shown(values[key])}" for key in SHOWN if key in values)
        what = f"{file}, {name}, {box or 'no bbox'}"
        found.append(LeftOut(REASONS[checked.reasons[n]], what))
    return found


def _with_annotations(dicts: list[dict], checked: Checked, also: Set[Reason]) -> list[dict]:
    """Dicts with the annotations that can be learned from, and with those of some reasons."""
    kept = (checked.reasons < 0) | checked.are(*also)
    changed = np.unique(checked.places[~kept | checked.converted])
    if not len(changed):
        return dicts
    dicts = list(dicts)
    for place in changed.tolist():
        first, end = np.searchsorted(checked.places, [place, place + 1])
        annotations = [checked.annotations[n] for n in range(first, end) if kept[n]]
        dicts[place] = {**dicts[place], "annotations": annotations}
    return dicts
