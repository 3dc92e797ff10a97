"""Figure 4 of the paper: detections of two networks beside the ground truth."""

from collections.abc import Sequence

import numpy as np

from ..data.images.image import read_image
from ..evaluation.pseudo_label_quality import match_boxes
from .measured_boxes import MeasuredBoxes
from .pictures import draw_boxes, drawable, ground_truth, picture_grid

__all__ = ["comparison_sheet", "disagreement", "most_different"]

SIDE = 480  # pixels
TILE = 3.4  # inches


def disagreement(one: MeasuredBoxes, other: MeasuredBoxes) -> int:
    """How many boxes of two networks on an image have no partner.

    A partner is a box of the other network of the same class at IoU 0.5, and of one box only.
    """
    found = match_boxes(one.boxes, one.classes, one.scores, other.boxes, other.classes)
    return found.false_positives + found.false_negatives


def most_different(
    one: dict[int, MeasuredBoxes], other: dict[int, MeasuredBoxes], count: int
) -> list[int]:
    """Numbers of the images on which two networks disagree most, the most different first.

    The ground truth is not used, so the images favour neither. Those that they agree on are left
    out.

    Args:
        one, other: number of the image -> boxes.
        count: of images at most.
    """
    counts = {n: disagreement(one[n], other[n]) for n in one if n in other}
    return sorted((n for n in counts if counts[n]), key=lambda n: -counts[n])[:count]


def comparison_sheet(
    networks: dict[str, dict[int, MeasuredBoxes]],
    dicts: Sequence[dict],
    metadata,
    path: str,
    *,
    count: int = 4,
    score_thresh: float = 0.5,
) -> bool:
    """Draws the images that two networks see most differently, with the ground truth at the right.

    Args:
        networks: title -> number of the image -> boxes, of two networks.
        dicts: the images, with ``annotations``.
        metadata: of their dataset, with ``thing_classes``.
        path: of the PNG file.
        count: of images at most, a row each.
        score_thresh: only boxes scored above it count and are drawn.

    Returns:
        whether there was anything to draw.
    """
    shown = [
        {n: boxes.where(boxes.scores > score_thresh) for n, boxes in found.items()}
        for found in networks.values()
    ]
    numbers = most_different(*shown, count)
    rows, captions = [], []
    for number in numbers:
        image = read_image(dicts[number]["file_name"], "RGB")
        truth = ground_truth(dicts[number])
        found = [boxes[number] for boxes in shown]
        tiles = [drawable(image.shape[:2], b.boxes, b.classes, b.scores) for b in found]
        rows.append([draw_boxes(image, tile, metadata, side=SIDE) for tile in [*tiles, truth]])
        captions += [_caption(boxes, len(truth)) for boxes in found] + [f"{len(truth)} objects"]
    if rows:
        titles = [*networks, "ground truth"]
        picture_grid(rows, path, column_titles=titles, captions=captions, tile=TILE)
    return bool(rows)


def _caption(boxes: MeasuredBoxes, objects: int) -> str:
    right = int(boxes.hits.sum())
    wrong = int(np.sum(~boxes.hits & ~boxes.neutral))
    return f"{right} right, {wrong} wrong, {objects - right} missed"
