"""Large images in overlapping tiles, and the detections of all of them as those of one image."""

import math
from collections.abc import Sequence

import torch
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances, pairwise_ioa

__all__ = ["merge_tiles", "tile_windows"]

# A box this close to a side of its tile, in pixels, may be a part of a larger one.
AT_BORDER = 2.0


def tile_windows(
    size: tuple[int, int], side: int, overlap: float
) -> list[tuple[int, int, int, int]]:
    """Windows of equal size that cover an image, row by row.

    Args:
        size: (height, width).
        side: of a tile in pixels; an image's shorter side is not exceeded.
        overlap: smallest share of a tile that its neighbour shows, too, in [0, 1).

    Returns:
        XYXY, whole pixels.
    """
    height, width = size
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def merge_tiles(
    parts: Sequence[Instances],
    windows: Sequence[tuple[int, int, int, int]],
    size: tuple[int, int],
    *,
    nms_thresh: float = 0.5,
) -> Instances:
    """The detections of all tiles in the frame of the image, each object once.

    NMS within each class removes what several tiles saw whole. A box that a border between tiles
    has cut may overlap the whole one too little for that; it goes if more than ``nms_thresh`` of
    its own area lies in a box of its class that is not cut.

    Args:
        parts: per tile, Instances in its frame, maybe with ``pred_masks`` (n, h, w) bool.
        windows: of :func:`tile_windows`.
        size: (height, width) of the image.

    Returns:
        Instances of the image, by descending score; masks take a byte per pixel of the image and
        box.
    """
    moved = [_moved(part, window, size) for part, window in zip(parts, windows)]
    cut = torch.cat([_cut(part, window, size) for part, window in zip(parts, windows)])
    boxes = Boxes.cat([part.pred_boxes for part in moved])
    scores = torch.cat([part.scores for part in moved])
    classes = torch.cat([part.pred_classes for part in moved])
    # Whole boxes come first, so that none of them gives way to a part of itself.
    kept = batched_nms(boxes.tensor, scores + (~cut).to(scores), classes, nms_thresh)
    kept = kept[~_is_part(boxes[kept], classes[kept], cut[kept], nms_thresh)]
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    found = Instances(size, pred_boxes=boxes[kept], scores=scores[kept], pred_classes=classes[kept])
    places = torch.cat([torch.arange(len(part)) for part in parts])[kept].tolist()
    tiles = torch.cat([torch.full((len(p),), n) for n, p in enumerate(parts)])[kept].tolist()
    if all(part.has("variances") for part in parts):
        found.variances = torch.cat([part.variances for part in parts])[kept]
    if all(part.has("pred_masks") for part in parts):
        found.pred_masks = torch.zeros(len(kept), *size, dtype=torch.bool)
        for row, (tile, place) in enumerate(zip(tiles, places)):
            x0, y0, x1, y1 = windows[tile]
            found.pred_masks[row, y0:y1, x0:x1] = parts[tile].pred_masks[place].cpu()
    return found


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """First pixels of the tiles along one side, evenly spread."""
    if length <= side:
        return [0]
    step = max(1, math.floor(side * (1 - overlap)))
    count = math.ceil((length - side) / step) + 1
    return [round(n * (length - side) / (count - 1)) for n in range(count)]


def _moved(part: Instances, window, size) -> Instances:
    x, y = window[:2]
    offset = part.pred_boxes.tensor.new_tensor([x, y, x, y])
    return Instances(
        size,
        pred_boxes=Boxes(part.pred_boxes.tensor + offset),
        scores=part.scores,
        pred_classes=part.pred_classes,
    )


def _cut(part: Instances, window, size) -> torch.Tensor:
    """(n,) bool, boxes that touch a side of the tile inside the image."""
    x0, y0, x1, y1 = window
    height, width = size
    left, top, right, bottom = part.pred_boxes.tensor.unbind(1)
    return (
        ((left <= AT_BORDER) & (x0 > 0))
        | ((top <= AT_BORDER) & (y0 > 0))
        | ((right >= x1 - x0 - AT_BORDER) & (x1 < width))
        | ((bottom >= y1 - y0 - AT_BORDER) & (y1 < height))
    )


def _is_part(boxes: Boxes, classes: torch.Tensor, cut: torch.Tensor, share: float) -> torch.Tensor:
    """(n,) bool, cut boxes that lie in a box of their class that is not cut."""
    inside = pairwise_ioa(boxes, boxes).T > share
    inside &= (classes[:, None] == classes) & cut[:, None] & ~cut
    return inside.any(dim=1)
