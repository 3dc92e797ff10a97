"""One label file of YOLO: the boxes of an image, as fractions of it.

A line is a class number, and then the box's centre, width and height, and maybe a score; or the
points of a polygon, its mask, whose box is the smallest around it; or a box and keypoints, which
are dropped.
"""

import math
import os
from dataclasses import dataclass

from ...masks import SEGMENTATION
from ..listing import read_lines

__all__ = ["Label", "label_file", "read_labels", "whole_number"]

# Numbers of a line after its class; a polygon has at least as many.
BOX, SCORED, POLYGON = 4, 5, 6


@dataclass
class Label:
    """A line of a label file.

    Attributes:
        line: its number, from 1.
        category: class number, or the text in its place.
        box: left, top, width and height as fractions; None if the line gives none.
        values: the texts after the class.
        score: None if there is none.
        polygon: x and y in turn, as fractions; None if the line gives none.
    """

    line: int
    category: int | str
    box: tuple[float, float, float, float] | None
    values: list[str]
    score: float | None = None
    polygon: list[float] | None = None

    def in_pixels(self, width: int, height: int) -> dict:
        """COCO's annotation in an image of this size; what is no box stays as it is."""
        found = {"category_id": self.category, "bbox": self.values}
        if self.box:
            found["bbox"] = [
                n * side for n, side in zip(self.box, (width, height) * 2, strict=True)
            ]
        if self.polygon:
            sides = (width, height) * (len(self.polygon) // 2)
            found[SEGMENTATION] = [[n * side for n, side in zip(self.polygon, sides, strict=True)]]
        return found if self.score is None else {**found, "score": self.score}

    def is_beyond(self, tolerance: float) -> bool:
        """Whether the box reaches out of the image, by more than a share of it."""
        if self.box is None:
            return False
        left, top, width, height = self.box
        return min(left, top) < -tolerance or max(left + width, top + height) > 1 + tolerance


def label_file(image: str) -> str:
    """images/a.jpg -> labels/a.txt, for the last folder named so; without one it is beside."""
    before, images, after = image.rpartition(f"{os.sep}images{os.sep}")
    return os.path.splitext(f"{before}{images.replace('images', 'labels')}{after}")[0] + ".txt"


def read_labels(file: str, *, keypoint_numbers: int = 0) -> list[Label] | None:
    """The lines that are not blank; None without a file.

    Args:
        keypoint_numbers: how many numbers may follow a box, for its keypoints.

    Raises:
        OSError: there is a file, but it cannot be read.
    """
    try:
        lines = enumerate(read_lines(file), 1)
    except FileNotFoundError:
        return None
    return [_label(n, line.split(), BOX + keypoint_numbers) for n, line in lines if line]


def whole_number(text: str) -> int | None:
    """A text as a whole number, also where it is written as 1.0; None for anything else."""
    numbers = _finite([text])
    return int(numbers[0]) if numbers and numbers[0].is_integer() else None


def _label(line: int, values: list[str], pose: int) -> Label:
    category, numbers = whole_number(values[0]), _finite(values[1:])
    is_box = len(numbers) in (BOX, SCORED, pose)
    polygon = None if is_box or len(numbers) < POLYGON or len(numbers) % 2 else numbers
    return Label(
        line=line,
        category=values[0] if category is None else category,
        box=_box(numbers) if is_box else polygon and _box_around(polygon),
        values=values[1:],
        score=numbers[BOX] if len(numbers) == SCORED else None,
        polygon=polygon,
    )


def _box(numbers: list[float]) -> tuple[float, float, float, float]:
    x, y, width, height = numbers[:BOX]
    return x - width / 2, y - height / 2, width, height


def _box_around(polygon: list[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _finite(values: list[str]) -> list[float]:
    """The values as numbers, none if one of them is none."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
