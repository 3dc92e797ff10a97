"""COCO: a complete dataset with scores, and results for COCO's evaluation.

Annotations have ``score`` and, where it was measured, ``variance``, also as ``attributes``, which
CVAT shows. ``file_name`` is relative to the root of the sources.
"""

import json
import math
from collections.abc import Iterator

from pycocotools import mask as coco_mask

from ...utils.atomic import atomic_write
from ..detections import Detections
from .about import About, Rows, write_items

__all__ = ["write"]

DATASET, RESULTS = "dataset.json", "results.json"


def write(rows: Rows, about: About) -> str:
    """``coco/dataset.json`` and ``coco/results.json``; images are numbered from 1."""
    folder = about.folder / "coco"
    folder.mkdir(exist_ok=True)
    with atomic_write(str(folder / DATASET)) as file:
        file.write(f'{{"info": {json.dumps(about.info)},\n"images": ')
        write_items(file, (_image(n, row, about) for n, row in _numbered(rows)))
        file.write(',\n"annotations": ')
        write_items(file, _annotations(rows, about))
        file.write(f',\n"categories": {json.dumps(about.categories)}}}\n')
    with atomic_write(str(folder / RESULTS)) as file:
        write_items(file, _results(rows, about))
        file.write("\n")
    return f"{folder / DATASET}@{about.root}"


def _numbered(rows: Rows) -> Iterator[tuple[int, Detections]]:
    return enumerate((row for row in rows() if not row.unreadable), 1)


def _image(number: int, row: Detections, about: About) -> dict:
    name = about.below_root(row.file)
    if row.frame is not None:
        name = f"{name}#{row.frame}"
    return {"id": number, "file_name": name, "height": row.height, "width": row.width}


def _results(rows: Rows, about: About) -> Iterator[dict]:
    for number, row in _numbered(rows):
        for place, (x0, y0, x1, y1) in enumerate(row.boxes):
            found = {
                "image_id": number,
                "category_id": about.categories[row.classes[place]]["id"],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": row.scores[place],
            }
            yield found if row.masks is None else {**found, "segmentation": row.masks[place]}


def _annotations(rows: Rows, about: About) -> Iterator[dict]:
    variances = (v for _, row in _numbered(rows) for v in row.variances or [None] * len(row.boxes))
    for number, (found, variance) in enumerate(zip(_results(rows, about), variances), 1):
        _, _, width, height = found["bbox"]
        mask = found.get("segmentation")
        extra = {"score": found["score"]}
        if variance is not None:
            extra["variance"] = variance if math.isfinite(variance) else None
        yield {
            "id": number,
            **found,
            **extra,
            "area": width * height if mask is None else int(coco_mask.area(mask)),
            "iscrowd": 0,
            "attributes": extra,
        }
