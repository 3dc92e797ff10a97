"""A shape as every form of segmentation, and what is to be seen of it, in double precision."""

import numpy as np
from pycocotools import mask as mask_util

__all__ = ["FORMS", "QUAD", "as_polygon", "box_of", "iou", "moved", "raster", "rle"]

# A quadrilateral without two parallel sides: corners (x, y), absolute pixels, clockwise.
QUAD = np.array([[34.0, 22.0], [78.5, 30.25], [70.0, 61.5], [40.25, 55.0]])


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def raster(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): the pixels whose centres are in a convex polygon."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    sides = [
        (b[0] - a[0]) * (ys - a[1]) - (b[1] - a[1]) * (xs - a[0])
        for a, b in zip(corners, np.roll(corners, -1, axis=0))
    ]
    return np.all(np.greater_equal(sides, 0), axis=0) | np.all(np.less_equal(sides, 0), axis=0)


def box_of(corners: np.ndarray) -> list[float]:
    """XYXY"""
    return [*corners.min(0).tolist(), *corners.max(0).tolist()]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max((one | other).sum(), 1)


def as_polygon(corners: np.ndarray, size=None) -> list:
    return [corners.ravel().tolist()]


def rle(corners: np.ndarray, size) -> dict:
    """Compressed, as COCO's results have it."""
    found = mask_util.encode(np.asfortranarray(raster(corners, size), np.uint8))
    return {**found, "counts": found["counts"].decode()}


def _counts(corners: np.ndarray, size) -> dict:
    """Uncompressed, as COCO's crowds have it."""
    flat = raster(corners, size).ravel("F")
    changes = np.flatnonzero(np.diff(np.r_[False, flat]))
    return {"size": list(size), "counts": np.diff(np.r_[0, changes, flat.size]).tolist()}


FORMS = {
    "polygon": as_polygon,
    "compressed": rle,
    "compressed bytes": lambda corners, size: {
        **rle(corners, size),
        "counts": rle(corners, size)["counts"].encode(),
    },
    "uncompressed": _counts,
    "bitmap": raster,
}
