"""What a plan looks at in a dataset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.annotations import annotated_boxes
from ..data.datasets.reading.reader import Reading
from ..data.images.sizes import image_sizes

__all__ = ["DataStats", "size_text", "stats_of", "weighted_quantiles"]

# Image files whose headers are read where a dataset has no sizes.
READ_SIZES = 200


@dataclass(frozen=True)
class DataStats:
    """What a plan looks at in a dataset.

    Attributes:
        images: number of images.
        boxes: class -> number of boxes that can be learned from, classes without one included.
        sides: (M,) square roots of their areas, pixels of the image.
        weights: (M,) of the boxes, so that every class weighs the same.
        ratios: (M,) height / width.
        size: median (height, width) of the images, pixels.
    """

    images: int
    boxes: Counter
    sides: np.ndarray
    weights: np.ndarray
    ratios: np.ndarray
    size: tuple[float, float]

    @property
    def boxes_per_image(self) -> float:
        return len(self.sides) / max(self.images, 1)

    @property
    def small_side(self) -> float:
        """A tenth of the boxes is smaller, classes weighted alike; pixels of the image."""
        return float(weighted_quantiles(self.sides, self.weights, [0.1])[0])


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, shares) -> np.ndarray:
    """The values below which shares of all weight lie.

    Args:
        values, weights: (M,), at least one.
        shares: (K,) in [0, 1].
    """
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    places = np.searchsorted(below, np.asarray(shares) * below[-1])
    return values[order][np.minimum(places, len(values) - 1)]


def stats_of(readings: Sequence[Reading]) -> DataStats:
    """Statistics of one or several datasets that are used together."""
    names = next((list(r.classes) for r in readings if r.classes), [])
    dicts = [d for reading in readings for d in reading.dicts]
    found = [annotated_boxes(d) for d in dicts]
    boxes = np.concatenate([b for b, _ in found]) if found else np.zeros((0, 4))
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    of_box = [number for _, classes in found for number in classes]
    numbers = Counter(of_box)
    return DataStats(
        images=len(dicts),
        boxes=Counter({name: numbers[n] for n, name in enumerate(names)}),
        sides=np.sqrt(width * height),
        weights=np.array([1 / numbers[number] for number in of_box]),
        ratios=height / width,
        size=_median_size(dicts),
    )


def _median_size(dicts: list[dict]) -> tuple[float, float]:
    """By the files of some of the images where the dataset does not tell; 0 if it is unknown."""
    known = [(d["height"], d["width"]) for d in dicts if "height" in d and "width" in d]
    if not known:
        step = max(len(dicts) // READ_SIZES, 1)
        known = image_sizes([d["file_name"] for d in dicts[::step]])
    sizes = np.array(known, dtype=float).reshape(-1, 2)
    sizes = sizes[sizes[:, 0] > 0]
    return tuple(np.median(sizes, axis=0)) if len(sizes) else (0.0, 0.0)


def size_text(size: tuple[float, float]) -> str:
    """(height, width) as people write it."""
    return f"{size[1]:g} x {size[0]:g}"
