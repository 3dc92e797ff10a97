"""How well pseudo masks cover the objects that their boxes found."""

import numpy as np
import torch
from detectron2.structures import BitMasks, PolygonMasks
from pycocotools import mask as coco_mask

from ..data.masks import encoded, packed

__all__ = ["HeldMasks", "bitmap_iou", "mask_iou"]


def mask_iou(
    probabilities: np.ndarray, boxes: np.ndarray, truth: np.ndarray, areas: np.ndarray
) -> np.ndarray:
    """IoU of masks on boxes with the objects, of which a part may lie outside the box.

    A cell of a box belongs to the mask if that is at least as likely as not, as in Detectron2.

    Args:
        probabilities: (n, M, M) on the boxes.
        boxes: (n, 4) XYXY, absolute pixels of a view.
        truth: (n, M, M) bool, the objects on the same cells.
        areas: (n,) of the whole objects, in pixels of that view.

    Returns:
        (n,) float64; 0 where there is neither mask nor object.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    cells = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(np.shape(truth)[1:])
    masks, truth = np.asarray(probabilities) >= 0.5, np.asarray(truth, dtype=bool)
    shared = (masks & truth).sum(axis=(1, 2)) * cells
    covered = (masks | truth).sum(axis=(1, 2)) * cells
    outside = np.maximum(areas - truth.sum(axis=(1, 2)) * cells, 0)
    union = covered + outside
    return np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0)


def bitmap_iou(bitmap: np.ndarray, segmentation: list | dict) -> float:
    """IoU of a mask (H, W) with that of an annotation of the image, as COCO's evaluation has it.

    Args:
        segmentation: polygons in absolute pixels, or an RLE; not empty.
    """
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *bitmap.shape))
    else:
        segmentation = packed(segmentation)
    return float(coco_mask.iou([encoded(bitmap)], [segmentation], [False])[0, 0])


class HeldMasks:
    """The masks of an image's objects, held cheaply until some of them are compared."""

    def __init__(self, masks: PolygonMasks | BitMasks):
        self._polygons = self._bits = None
        if isinstance(masks, PolygonMasks):
            self._polygons = masks
        else:  # eight pixels to a byte
            self._width = masks.tensor.shape[-1]
            self._bits = np.packbits(masks.tensor.numpy(), axis=-1)

    def iou(self, objects: np.ndarray, probabilities: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """:func:`mask_iou` of n masks on boxes with one object each.

        Args:
            objects: (n,) numbers of the objects.
            probabilities, boxes: (n, M, M) and (n, 4) in the view of the objects.
        """
        found = self._of_polygons if self._bits is None else self._of_bitmaps
        truth, areas = found(objects, np.asarray(boxes, np.float64), probabilities.shape[-1])
        return mask_iou(probabilities, boxes, truth, areas)

    def _of_polygons(self, objects: np.ndarray, boxes: np.ndarray, cells: int):
        """The objects on the cells of their boxes, and their areas in pixels."""
        masks = self._polygons[objects.tolist()]
        grids = masks.crop_and_resize(torch.as_tensor(boxes, dtype=torch.float32), cells)
        return grids.numpy(), masks.area().double().numpy()

    def _of_bitmaps(self, objects: np.ndarray, boxes: np.ndarray, cells: int):
        """The same; a cell is the pixel at its centre, which is fast for masks of full images."""
        grids, areas = np.zeros((len(objects), cells, cells), bool), np.zeros(len(objects))
        centers = (np.arange(cells) + 0.5) / cells
        for row, (bits, box) in enumerate(zip(self._bits[objects], boxes)):
            bitmap = np.unpackbits(bits, axis=-1, count=self._width)
            places = np.floor(box[:2] + centers[:, None] * (box[2:] - box[:2])).astype(int)
            columns, rows = places.clip(0, (bitmap.shape[1] - 1, bitmap.shape[0] - 1)).T
            grids[row] = bitmap[np.ix_(rows, columns)]
            areas[row] = np.count_nonzero(bitmap)
        return grids, areas
