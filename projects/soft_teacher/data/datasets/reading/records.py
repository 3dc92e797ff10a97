"""A raw dataset as Detectron2's dicts: images in the order of their ids, each with its annotations.

Values of annotations stay as they are; :mod:`.annotation_checks` checks them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.structures import BoxMode

from ....utils.checks import shown
from ...masks import SEGMENTATION
from ...values import as_flag, as_id, as_side, has_only, is_text, matching_id
from .balance import LeftOut, Reason
from .faults import Fault, Kind
from .raw_dataset import NOT_MEASURED, RawDataset

__all__ = ["Records", "records_of"]

# What is kept of an annotation: keypoints are not used, so their mistakes do not matter.
KEYS = ("iscrowd", "bbox", "category_id", "score", SEGMENTATION, NOT_MEASURED)


@dataclass
class Records:
    """Dataset dicts whose annotations are not checked yet.

    Attributes:
        dicts: in Detectron2's format; ``category_id`` is None for an unknown class.
        folder: of the images, to look for missing ones.
        classes: names by class number; None if they are not known.
        id_map: category id -> class number.
        ids, areas: the annotations' own, in the order of the dicts; None if they have none.
        orphans: annotations of no image.
        faults, notes: mistakes that were found already, and messages for the user.
        json_file: COCO JSON that holds the same.
    """

    dicts: list[dict]
    folder: str = ""
    classes: list[str] | None = None
    id_map: dict = field(default_factory=dict)
    ids: list | None = None
    areas: list | None = None
    orphans: list[LeftOut] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    json_file: str | None = None


def records_of(raw: RawDataset, *, masks: bool = True) -> Records:
    """The records of a raw dataset, with the masks of its annotations or without."""
    keys = [key for key in KEYS if masks or key != SEGMENTATION]
    faults: list[Fault] = []
    classes, id_map = _classes(raw, faults)
    dicts, is_plain = _images(raw, faults)
    places: dict = {}
    for place, record in enumerate(dicts):
        places.setdefault(record["image_id"], place)
    found = [a for a in raw.annotations if isinstance(a, dict)]
    image_ids, same_images = _matched([a.get("image_id") for a in found], places)
    category_ids, same_categories = _matched([a.get("category_id") for a in found], id_map)
    members: list[list[int]] = [[] for _ in dicts]
    orphans = [_orphan(raw.where, a) for a in raw.annotations if not isinstance(a, dict)]
    for number, image_id in enumerate(image_ids):
        place = places.get(image_id)
        if place is None:
            orphans.append(_orphan(raw.where, found[number]))
        else:
            members[place].append(number)
    for record, numbers in zip(dicts, members):
        record["annotations"] = [
            _annotation(found[n], id_map.get(category_ids[n]), keys) for n in numbers
        ]
    order = [n for numbers in members for n in numbers]
    is_plain &= same_images and same_categories and not any("ignore" in a for a in found)
    ids = [found[n].get("id") for n in order]
    return Records(
        dicts=dicts,
        folder=raw.folder,
        classes=classes,
        id_map=id_map,
        ids=None if ids and has_only(ids, type(None)) else ids,
        areas=[found[n].get("area") for n in order],
        orphans=orphans,
        faults=faults,
        notes=list(raw.notes),
        json_file=raw.json_file if is_plain else None,
    )


def _classes(raw: RawDataset, faults: list[Fault]) -> tuple[list[str], dict]:
    """Names of the classes in the order of their ids, and id -> number; none if they are faulty."""
    names: dict = {}
    line = None
    for number, category in enumerate(raw.categories):
        fields = category if isinstance(category, dict) else {}
        category_id, name = as_id(fields.get("id")), fields.get("name")
        name = str(name) if has_only([name], int) else name
        if category_id is None or not is_text(name):
            line = f"categories[{number}] needs an id and a name, got {shown(category)}"
            break
        if category_id in names:
            line = (
                f"category id {category_id} occurs twice, for '{names[category_id]}' and '{name}': "
                "give every category an id of its own"
            )
            break
        names[category_id] = name
    else:
        if not (has_only(names, int) or has_only(names, str)):
            line = "some category ids are numbers and some are texts: use one kind"
        elif not names and raw.annotations:
            line = '"categories" is empty: list the classes there, with id and name'
    if line:
        faults.append(Fault(Kind.CATEGORY, f"{raw.where}: {line}"))
        names = {}
    ids = sorted(names)
    return [names[i] for i in ids], {i: number for number, i in enumerate(ids)}


def _images(raw: RawDataset, faults: list[Fault]) -> tuple[list[dict], bool]:
    """Records without annotations, and whether all ids were as they should be."""
    records, is_plain = [], True
    for number, image in enumerate(raw.images):
        fields = image if isinstance(image, dict) else {}
        name = fields.get("file_name")
        if not is_text(name):
            line = f"images[{number}] needs a file_name, got {shown(image)}"
            faults.append(Fault(Kind.FILE_NAME, f"{raw.where}: {line}"))
            continue
        image_id = as_id(fields.get("id"))
        is_plain &= type(fields.get("id")) in (int, str)
        if image_id is None:
            line = f"the id of {name} is {shown(fields.get('id'))}: give every image a whole number"
            faults.append(Fault(Kind.IMAGE_ID, f"{raw.where}: {line} of its own"))
        record = {"file_name": os.path.join(raw.folder, name), "image_id": image_id}
        size = [as_side(fields.get(side)) for side in ("height", "width")]
        if None not in size:
            record["height"], record["width"] = size
        records.append(record)
    ids = [record["image_id"] for record in records]
    if has_only(ids, int) or has_only(ids, str):
        records.sort(key=lambda record: record["image_id"])
    elif not has_only(ids, int, type(None)):
        line = f"{raw.where}: some image ids are numbers and some are texts: use one kind"
        faults.append(Fault(Kind.IMAGE_ID, line))
    return records, is_plain


def _matched(values: list, known: dict) -> tuple[list, bool]:
    """The ids in ``known`` that values mean, and whether they are the values themselves."""
    if has_only(values, int) and has_only(known, int):
        return values, True
    found = [matching_id(value, known) for value in values]
    return found, found == values


def _annotation(annotation: dict, category: int | None, keys: Sequence[str]) -> dict:
    kept: dict[str, Any] = {key: annotation[key] for key in keys if key in annotation}
    kept["bbox_mode"] = BoxMode.XYWH_ABS
    kept["category_id"] = category
    if as_flag(annotation.get("ignore")):
        kept["iscrowd"] = 1
    return kept


def _orphan(where: str, annotation: Any) -> LeftOut:
    fields = annotation if isinstance(annotation, dict) else {}
    place = f"{where}, annotation id {shown(fields.get('id'))}"
    return LeftOut(Reason.IMAGE, f"{place} of image id {shown(fields.get('image_id'))}")
