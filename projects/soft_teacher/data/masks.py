"""Segmentations of annotations: which can be used, how they travel, and as masks in a view.

A segmentation is polygons ``[[x1, y1, x2, y2, ...], ...]`` in absolute pixels, COCO's RLE
(compressed, or uncompressed counts), or a bitmap (H, W). Streams carry the first two, with
compressed counts as text.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, PolygonMasks, polygons_to_bitmask
from pycocotools import mask as mask_util

from .values import LARGEST_NUMBER, has_only

__all__ = [
    "MASK_FORMATS",
    "MASK_SIZE",
    "Masks",
    "MaskFault",
    "SEGMENTATION",
    "bitmap",
    "box_probabilities",
    "encoded",
    "has_masks",
    "image_size",
    "mask_fault",
    "masks_in_view",
    "packed",
]

# Key of an annotation.
SEGMENTATION = "segmentation"
# INPUT.MASK_FORMAT of Detectron2.
MASK_FORMATS = ("polygon", "bitmask")
# Side of a mask on its box, as mask heads predict it.
MASK_SIZE = 28
NUMBERS = (int, float, np.integer, np.floating)
# Numbers of the smallest polygon that has an area.
TRIANGLE = 6
# Characters of compressed counts hold 5 bits each; so many are more than any image needs.
LONGEST_COUNT = 12


class MaskFault(StrEnum):
    """Why a segmentation cannot be learned from or measured with."""

    MISSING = "have no segmentation"
    ODD = "have a polygon with an odd number of coordinates"
    POINTS = "have polygons of fewer than 3 points alone"
    SIZE = "have a mask of another size than the image"
    COUNTS = "have an RLE that is damaged"
    FORM = "have a segmentation that is neither polygons nor RLE"


Masks = PolygonMasks | BitMasks


def mask_fault(segmentation: Any, size: tuple[int, int] | None) -> MaskFault | None:
    """What is wrong with a segmentation, whose values may be anything; None if it can be used.

    A piece of fewer than 3 points has no area, and is no mistake beside others.

    Args:
        size: (height, width) of the image; None if it is not known.
    """
    if isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        return MaskFault.SIZE if size and segmentation.shape != tuple(size) else None
    if not isinstance(segmentation, (list, tuple, dict)):
        return MaskFault.MISSING if segmentation is None else MaskFault.FORM
    if not segmentation:
        return MaskFault.MISSING
    return (_rle_fault if isinstance(segmentation, dict) else _polygon_fault)(segmentation, size)


def image_size(record: dict) -> tuple[int, int] | None:
    """(height, width) of a dataset dict; None if it has none."""
    return (record["height"], record["width"]) if {"height", "width"} <= record.keys() else None


def packed(segmentation: Any) -> list | dict:
    """A segmentation without fault as streams and JSON take it; itself if it is so already."""
    if isinstance(segmentation, np.ndarray):
        return encoded(segmentation)
    if isinstance(segmentation, dict):
        return _packed_rle(segmentation)
    plain = isinstance(segmentation, list) and has_only(segmentation, list)
    if plain and min(map(len, segmentation)) >= TRIANGLE:
        return segmentation
    return [np.asarray(piece).tolist() for piece in segmentation if len(piece) >= TRIANGLE]


def bitmap(segmentation: list | dict, size: tuple[int, int]) -> np.ndarray:
    """A packed segmentation as bool (H, W)."""
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation).astype(bool)
    return polygons_to_bitmask([np.asarray(piece) for piece in segmentation], *size)


def encoded(mask: np.ndarray) -> dict:
    """A bitmap (H, W) as compressed RLE."""
    return _packed_rle(mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)))


def has_masks(annotations: Sequence[dict], size: tuple[int, int]) -> bool:
    """Whether all annotations of an image have a mask, each for an image of this size."""
    found = [a.get(SEGMENTATION) for a in annotations]
    sizes = (tuple(s["size"]) for s in found if isinstance(s, dict))
    return None not in found and all(known == tuple(size) for known in sizes)


def masks_in_view(
    annotations: Sequence[dict],
    transforms: T.TransformList,
    view_size: tuple[int, int],
    mask_format: str,
) -> Masks:
    """The masks of annotations in a view of their image, in their order.

    Args:
        annotations: with boxes, classes and packed segmentations.
        transforms: image to view.
        view_size: (height, width) of the view.
        mask_format: "polygon" or "bitmask", which RLE become in any case.
    """
    polygons = all(isinstance(a[SEGMENTATION], list) for a in annotations)
    mask_format = mask_format if polygons else "bitmask"
    if not annotations:
        empty = torch.zeros((0, *view_size), dtype=torch.bool)
        return PolygonMasks([]) if mask_format == "polygon" else BitMasks(empty)
    moved = [
        utils.transform_instance_annotations({**a}, transforms, view_size) for a in annotations
    ]
    return utils.annotations_to_instances(moved, view_size, mask_format).gt_masks


def box_probabilities(masks: Masks, boxes: Boxes) -> torch.Tensor:
    """Masks cropped to their boxes, as a mask head would have predicted them.

    Args:
        masks, boxes: n of each, in absolute pixels of one view.

    Returns:
        float32 (n, 1, 28, 28), 0 or 1.
    """
    if not len(boxes):
        return torch.zeros((0, 1, MASK_SIZE, MASK_SIZE))
    return masks.crop_and_resize(boxes.tensor, MASK_SIZE)[:, None].float()


def _polygon_fault(pieces: Sequence, size) -> MaskFault | None:
    if not all(isinstance(piece, (list, tuple, np.ndarray)) for piece in pieces):
        return MaskFault.FORM
    for piece in pieces:
        if not _are_coordinates(piece):
            return MaskFault.FORM
        if len(piece) % 2:
            return MaskFault.ODD
    return None if max(map(len, pieces)) >= TRIANGLE else MaskFault.POINTS


def _are_coordinates(piece: Sequence) -> bool:
    """Whether a piece is a flat list of numbers of pixels."""
    kinds = set(map(type, piece))
    if bool in kinds or not all(issubclass(kind, NUMBERS) for kind in kinds):
        return False
    low, high = min(piece, default=0), max(piece, default=0)
    return -LARGEST_NUMBER <= low and high <= LARGEST_NUMBER and not math.isnan(sum(piece))


def _rle_fault(rle: dict, size) -> MaskFault | None:
    sides, counts = rle.get("size"), rle.get("counts")
    if not isinstance(sides, (list, tuple)) or len(sides) != 2 or not has_only(sides, int):
        return MaskFault.FORM
    if isinstance(counts, list):
        lengths = counts if has_only(counts, int) and min(counts, default=-1) >= 0 else None
    elif isinstance(counts, (str, bytes)):
        lengths = _run_lengths(counts)
    else:
        return MaskFault.FORM
    if lengths is None or sum(lengths) != sides[0] * sides[1]:
        return MaskFault.COUNTS
    return MaskFault.SIZE if size and tuple(sides) != tuple(size) else None


def _run_lengths(counts: str | bytes) -> list[int] | None:
    """What compressed counts say; None if nothing. pycocotools reads any text, and past its end.

    A number is written in characters of 5 bits, the lowest first, and from the fourth number on it
    is the difference to the last but one.
    """
    text = counts.encode(errors="replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - ord("0")
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.r_[0, ends[:-1] + 1]
    sizes = ends - starts + 1
    if sizes.max() > LONGEST_COUNT:
        return None
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, sizes))
    numbers = np.add.reduceat((codes & 31) << places, starts)
    numbers[(codes[ends] & 16) > 0] -= 1 << 5 * sizes[(codes[ends] & 16) > 0]
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers.tolist() if numbers.min() >= 0 else None


def _packed_rle(rle: dict) -> dict:
    if isinstance(rle["counts"], list):
        rle = mask_util.frPyObjects(rle, *rle["size"])
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": list(rle["size"]), "counts": text}
