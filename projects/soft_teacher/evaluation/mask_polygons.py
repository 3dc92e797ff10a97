"""Masks of every kind as polygons, which are small and can be drawn at any scale."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.structures import PolygonMasks
from pycocotools import mask as coco_mask

from ..data.masks import SEGMENTATION, packed

__all__ = ["annotated_polygons", "bitmap_polygons", "roi_polygons"]

# Numbers of the smallest polygon.
TRIANGLE = 6


def annotated_polygons(annotations: Sequence[dict]) -> PolygonMasks:
    """The masks of annotations in Detectron2's format; an object without one has no polygon."""
    return PolygonMasks([_of_segmentation(a.get(SEGMENTATION)) for a in annotations])


def bitmap_polygons(bitmaps: torch.Tensor) -> PolygonMasks:
    """The outlines of (n, H, W) masks, through the centres of their pixels.

    A hole turns the other way round than the part that it is in.
    """
    return PolygonMasks([_outlines(bitmap) for bitmap in bitmaps.cpu().numpy()])


def roi_polygons(
    probabilities: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> PolygonMasks:
    """The outlines of what is more likely than not a part of each object.

    Args:
        probabilities: (n, M, M), each on its box.
        boxes: (n, 4) XYXY, absolute pixels of an image.
        size: (height, width) of that image.
    """
    masks, boxes = probabilities.detach().float().cpu(), boxes.detach().float().cpu()
    return bitmap_polygons(paste_masks_in_image(masks, boxes, size, threshold=0.5))


def _of_segmentation(segmentation) -> list[np.ndarray]:
    if isinstance(segmentation, dict):
        return _outlines(coco_mask.decode(packed(segmentation)))
    parts = [np.asarray(part, dtype=np.float64) for part in segmentation or ()]
    return [part for part in parts if len(part) >= TRIANGLE and len(part) % 2 == 0]


def _outlines(bitmap: np.ndarray) -> list[np.ndarray]:
    """Polygons (x0, y0, x1, y1, ...) around the parts of a mask (H, W), and of their holes."""
    pixels = np.ascontiguousarray(bitmap, dtype=np.uint8)
    found, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Pixel i covers [i, i + 1).
    return [part.reshape(-1) + 0.5 for part in found if part.size >= TRIANGLE]
