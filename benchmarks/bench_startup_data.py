"""A folder that looks like COCO to a run that starts: JSONs of its size, tiny images."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from soft_teacher.data.datasets.splits.families import (
    FULL,
    full_split,
    split_name,
    without_replacement_split,
)
from soft_teacher.data.datasets.splits.manifest import write_manifest

__all__ = ["BOXES_PER_IMAGE", "FEWEST", "FOLD", "PERCENT", "make_coco"]

COUNTS = {"train2017": 118_287, "unlabeled2017": 123_403, "val2017": 5_000}
PERCENT, FOLD = 10.0, 1
FEWEST = 20
SIZES = ((48, 64), (64, 48), (45, 60), (64, 64))
# Hard links to one file; ext4 allows 65,000.
LINKS = 10_000
BOXES_PER_IMAGE = 7.27
# Corners of a polygon, log-normal; makes annotations as long as COCO's, 500 bytes each.
LOG_CORNERS = (3.07, 0.7)
IMAGE = (
    '{{"license": 3,"file_name": "{name}","coco_url": "http://images.cocodataset.org/coco/{name}",'
    '"height": {height},"width": {width},"date_captured": "2013-11-14 11:18:45","flickr_url": '
    '"http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg","id": {id}}}'
)


def make_coco(root: Path, scale: float) -> dict[str, int]:
    """Writes what the configs in configs/coco read of $DETECTRON2_DATASETS.

    Args:
        root: becomes $DETECTRON2_DATASETS.
        scale: number of images, as a share of COCO's.

    Returns:
        folder -> number of images; at least ``FEWEST``.
    """
    rng = np.random.default_rng(0)
    coco, first, ids = root / "coco", 1, {}
    (coco / "annotations").mkdir(parents=True)
    for folder, count in COUNTS.items():
        count = max(int(scale * count), FEWEST)
        ids[folder] = range(first, first + count)
        first += count
        _link_images(coco / folder, ids[folder])
        kind = "image_info" if folder == "unlabeled2017" else "instances"
        annotations = () if kind == "image_info" else _annotations(ids[folder], rng)
        _write(coco / "annotations" / f"{kind}_{folder}.json", ids[folder], annotations)
    train = ids["train2017"]
    split = without_replacement_split(train, PERCENT, FOLD, source="train2017")
    write_manifest(split, coco / "splits" / f"{split_name(split.family, PERCENT, FOLD)}.json")
    full = full_split(train, ids["unlabeled2017"], source="train2017 + unlabeled2017")
    write_manifest(full, coco / "splits" / f"{FULL}.json")
    return {folder: len(found) for folder, found in ids.items()}


def _link_images(folder: Path, ids: range) -> None:
    folder.mkdir()
    for i in ids:
        kind, number = i % len(SIZES), i // len(SIZES)
        original = folder / f"{kind}-{number // LINKS}.jpg"
        if not original.exists():
            cv2.imwrite(str(original), np.full((*SIZES[kind], 3), 99, np.uint8))
        os.link(original, folder / _name(i))


def _name(image_id: int) -> str:
    return f"{image_id:012d}.jpg"


def _write(path: Path, ids: range, annotations) -> None:
    categories = [{k: c[k] for k in ("id", "name")} for c in COCO_CATEGORIES if c["isthing"]]
    parts = {"images": map(_image, ids)} | ({"annotations": annotations} if annotations else {})
    with path.open("w") as file:
        file.write(f'{{"categories": {json.dumps(categories)}')
        for key, texts in parts.items():
            file.write(f',"{key}": [')
            file.writelines(f",{text}" if number else text for number, text in enumerate(texts))
            file.write("]")
        file.write("}")


def _image(image_id: int) -> str:
    height, width = SIZES[image_id % len(SIZES)]
    return IMAGE.format(name=_name(image_id), height=height, width=width, id=image_id)


def _annotations(ids: range, rng: np.random.Generator) -> Iterator[str]:
    polygons = [_polygon(rng) for _ in range(4000)]
    categories = [c["id"] for c in COCO_CATEGORIES if c["isthing"]]
    # Like COCO's: one image in a hundred without a box, some with dozens.
    counts = rng.negative_binomial(5, 5 / (5 + BOXES_PER_IMAGE), len(ids))
    images = np.repeat(ids, counts)
    boxes = rng.uniform((0, 0, 3, 3), (30, 30, 15, 15), (len(images), 4)).tolist()
    chosen = rng.integers(len(polygons), size=len(images))
    classes = rng.choice(categories, len(images))
    for i, (image, (x, y, w, h), place, category) in enumerate(
        zip(images, boxes, chosen, classes), 1
    ):
        yield (
            f'{{"segmentation": [{polygons[place]}],"area": {w * h:.5f},"iscrowd": 0,'
            f'"image_id": {image},"bbox": [{x:.2f},{y:.2f},{w:.2f},{h:.2f}],'
            f'"category_id": {category},"id": {i}}}'
        )


def _polygon(rng: np.random.Generator) -> str:
    corners = int(np.clip(rng.lognormal(*LOG_CORNERS), 3, 300))
    return json.dumps(rng.uniform(0, 640, 2 * corners).round(2).tolist(), separators=(",", ":"))
