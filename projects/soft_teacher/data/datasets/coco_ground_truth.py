"""Ground truth as COCO's evaluation wants it: the user's own file, or a normalised one."""

import hashlib
import json

import numpy as np

from ...utils.atomic import atomic_write
from ...utils.errors import ConfigError, one_line
from ..images.sizes import cache_folder
from ..masks import SEGMENTATION, image_size, mask_fault, packed
from ..values import LARGEST_ID, LARGEST_NUMBER, as_number, has_only
from .reading.balance import MEASURED
from .reading.raw_dataset import NOT_MEASURED
from .reading.reader import Reading

__all__ = ["all_measured", "as_coco", "ground_truth_file"]


def ground_truth_file(reading: Reading) -> str:
    """COCO JSON of what a reading can be measured with.

    That is the file that was read if COCO's evaluation takes it as it is. Else it is one in the
    cache, with the digest in its name, where annotations are numbered from 1 (COCO's evaluation
    misses the object of an id of 0) and have ``area`` and ``iscrowd``. Images and categories keep
    their ids.

    Raises:
        ConfigError: it cannot be written.
    """
    if _is_usable(reading):
        return reading.records.json_file
    text = json.dumps(_ground_truth(reading))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = cache_folder() / f"truth-{digest}.json"
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(str(path)) as file:
                file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({one_line(error)}): set $XDG_CACHE_HOME to a folder that "
            "can be"
        ) from error
    return str(path)


def as_coco(reading: Reading) -> dict:
    """A reading as the content of a COCO JSON, from which it can be read again.

    It holds what can be learned from or measured with, masks included. Images and categories keep
    their ids, and annotations are numbered from 1.
    """
    records, checked = reading.records, reading.checked
    numbers = np.flatnonzero(_is_measured(reading)).tolist()
    known = [checked.annotations[n] for n in numbers]
    largest = max((a["category_id"] for a in known), default=-1)
    names = reading.classes or [str(n) for n in range(largest + 1)]
    ids = {number: category for category, number in reading.id_map.items()}
    keys = {"image_id": "id", "file_name": "file_name", "height": "height", "width": "width"}
    return {
        "info": {},
        "images": [{new: d[k] for k, new in keys.items() if k in d} for d in reading.dicts],
        "annotations": [
            {
                "id": count,
                "image_id": reading.dicts[checked.places[n]]["image_id"],
                "category_id": ids.get(a["category_id"], a["category_id"]),
                "bbox": checked.boxes[n].tolist(),
                "area": _area(records.areas and records.areas[n], checked.boxes[n]),
                "iscrowd": int(bool(a.get("iscrowd", 0))),
                **_mask(a, reading.dicts[checked.places[n]]),
                **_own_values(a),
            }
            for count, (n, a) in enumerate(zip(numbers, known), 1)
        ],
        "categories": [{"id": ids.get(n, n), "name": name} for n, name in enumerate(names)],
    }


def all_measured(reading: Reading) -> bool:
    """Whether a detector can be measured with every annotation of a reading."""
    return bool(_is_measured(reading).all())


def _is_usable(reading: Reading) -> bool:
    """Whether COCO's evaluation reads the user's own file right."""
    records, annotations = reading.records, reading.checked.annotations
    return (
        records.json_file is not None
        and not records.orphans
        and not reading.checked.converted.any()
        and all_measured(reading)
        and records.ids is not None
        and has_only(records.ids, int)
        and len(set(records.ids)) == len(records.ids)
        and 1 <= min(records.ids, default=1)
        and max(records.ids, default=1) <= LARGEST_ID
        and has_only(records.areas, int, float)
        and all(0 <= area <= LARGEST_NUMBER for area in records.areas)
        and all("iscrowd" in a and not a.get(NOT_MEASURED) for a in annotations)
    )


def _is_measured(reading: Reading) -> np.ndarray:
    return (reading.checked.reasons < 0) | reading.checked.are(*MEASURED)


def _ground_truth(reading: Reading) -> dict:
    """COCO JSON in which what is not measured is a crowd; without annotations if there were none.

    Detectron2 then writes detections and measures nothing.
    """
    content = as_coco(reading)
    if not reading.balance.read:
        del content["annotations"]
        return content
    for annotation in content["annotations"]:
        annotation.pop("score", None)
        annotation["iscrowd"] |= int(annotation.pop(NOT_MEASURED, False))
    return content


def _mask(annotation: dict, record: dict) -> dict:
    """The segmentation of an annotation, if it has one that can be used."""
    found = annotation.get(SEGMENTATION)
    fault = mask_fault(found, image_size(record))
    return {} if fault else {SEGMENTATION: packed(found)}


def _own_values(annotation: dict) -> dict:
    """What an annotation has beyond COCO's."""
    found: dict = {NOT_MEASURED: True} if annotation.get(NOT_MEASURED) else {}
    if "score" in annotation:
        score = as_number(annotation["score"])
        found["score"] = None if score is None else float(score)
    return found


def _area(given, box: np.ndarray) -> float:
    """The area that was given, which may be that of a mask; else the box's."""
    area = as_number(given)
    return float(area if area is not None and area >= 0 else box[2] * box[3])
