"""Mistakes of whole datasets rather than of single annotations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

__all__ = ["Fault", "Kind", "box_faults", "record_faults"]

# A genuine box may leave the image by a little; corners that are taken for sides do by more.
BEYOND, BEYOND_PIXELS = 1.02, 1.0
SHARE_BEYOND = 0.1


Kind = Enum("Kind", "FILE_NAME IMAGE_ID REPEATED CATEGORY BOXES")


@dataclass(frozen=True)
class Fault:
    """A mistake: what it is about, and one line with file, id and fix."""

    kind: Kind
    line: str


def record_faults(dicts: Sequence[dict]) -> list[Fault]:
    """Ids and files that occur twice among dataset dicts."""
    known = (d for d in dicts if d.get("image_id") is not None)
    pairs = [(str(d["image_id"]), d["file_name"]) for d in known]
    if len({i for i, _ in pairs}) == len({f for _, f in pairs}) == len(pairs):
        return []
    files: dict[str, str] = {}
    ids: dict[str, str] = {}
    for image_id, file in pairs:
        if files.setdefault(image_id, file) != file:
            line = f"image id {image_id} occurs twice, for {files[image_id]} and {file}"
            return [Fault(Kind.IMAGE_ID, f"{line}: give every image an id of its own")]
        if ids.setdefault(file, image_id) != image_id:
            line = f"{file} has two image ids, {ids[file]} and {image_id}"
            return [Fault(Kind.IMAGE_ID, f"{line}: keep one of them, with the annotations of both")]
    image_id, file = next(pair for pair, count in Counter(pairs).items() if count > 1)
    line = f"image id {image_id} occurs twice, both times for {file}: remove one"
    return [Fault(Kind.REPEATED, line)]


def box_faults(boxes: np.ndarray, sizes: np.ndarray) -> list[Fault]:
    """Boxes in another unit or another order than a dataset says.

    Args:
        boxes: (N, 4) XYWH of single objects, finite.
        sizes: (N, 2) widths and heights of their images, NaN where unknown.
    """
    if not len(boxes):
        return []
    if (boxes >= 0).all() and (boxes <= 1).all() and not (sizes <= 1).any():
        line = (
            f"all {len(boxes)} boxes are between 0 and 1, so they look relative to the image, "
            f"first {boxes[0].tolist()}: multiply them by its width and height in pixels"
        )
        return [Fault(Kind.BOXES, line)]
    beyond = boxes[:, :2] + boxes[:, 2:] > sizes * BEYOND + BEYOND_PIXELS
    corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + BEYOND_PIXELS)
    beyond = beyond.any(axis=1)
    if corners.all() and beyond.mean() >= SHARE_BEYOND:
        line = (
            f"{beyond.sum()} of {len(boxes)} boxes leave their images, and all fit as corners, so "
            f"they look like [x1, y1, x2, y2], first {boxes[beyond.argmax()].tolist()}: write them "
            "as [x, y, width, height] in pixels"
        )
        return [Fault(Kind.BOXES, line)]
    return []
