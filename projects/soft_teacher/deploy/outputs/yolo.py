"""YOLO: a folder with a text file for each image, links to the images, and data.yaml."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import yaml
from pycocotools import mask as coco_mask

from ...data.datasets.formats.yolo_labels import label_file
from ...utils.errors import ConfigError
from ..detections import Detections
from .about import About, Rows, link_image, new_folder

__all__ = ["write", "write_polygons"]

# A polygon has three points at least.
FEWEST = 3


def write(rows: Rows, about: About) -> str:
    """``yolo``; a line is a class number, centre, width and height as fractions, and the score."""
    return _write(rows, about, "yolo", _box_lines)


def write_polygons(rows: Rows, about: About) -> str:
    """``yolo-seg``; a line is a class number and the outline of the mask's largest part.

    Raises:
        ConfigError: the detector makes no masks.
    """
    return _write(rows, about, "yolo-seg", _polygon_lines)


def _write(rows: Rows, about: About, name: str, lines) -> str:
    path = about.folder / name
    with new_folder(path) as folder:
        for row in rows():
            if row.unreadable:
                continue
            image = folder / "images" / (row.name + Path(row.file).suffix)
            link_image(row.file, image)
            file = Path(label_file(str(image)))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{line}\n" for line in lines(row)))
        names = dict(enumerate(about.class_names))
        data = {"train": "images", "val": "images", "names": names}
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
    return f"{path / 'data.yaml'}@train"


def _box_lines(row: Detections) -> Iterator[str]:
    for number, score, (x0, y0, x1, y1) in zip(row.classes, row.scores, row.boxes):
        width, height = row.width, row.height
        values = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height]
        values += [(x1 - x0) / width, (y1 - y0) / height, score]
        yield " ".join([str(number), *(f"{value:.9g}" for value in values)])


def _polygon_lines(row: Detections) -> Iterator[str]:
    if row.masks is None and row.boxes:
        raise ConfigError("--format yolo-seg needs masks, which the detector does not make")
    for number, encoded in zip(row.classes, row.masks or ()):
        outline = _outline(coco_mask.decode(encoded))
        points = [(x / row.width, y / row.height) for x, y in outline]
        if len(points) >= FEWEST:
            yield " ".join([str(number), *(f"{value:.9g}" for point in points for value in point)])


def _outline(mask) -> list[list[float]]:
    """Corners of the mask's largest part, (x, y) in pixels."""
    # Twice as large, outlines run through the middle of what was a pixel's border.
    doubled = cv2.resize(mask, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    parts, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(parts, key=cv2.contourArea, default=None)
    return [] if largest is None else ((largest[:, 0] + 0.5) / 2).tolist()
