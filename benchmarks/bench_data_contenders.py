"""The contenders of the data benchmark, and where the time of ours goes.

- floor: ``cv2.imread``, one ``cv2.resize``, one ``cv2.flip``; no random choice, no tensor;
- stock: two of Detectron2's ``DatasetMapper`` calls, one for each view;
- paper, reference: ``TwoViewDatasetMapper`` with the policies of that variant, their own
  probabilities, and a scale fixed at 1, so that all views are of one size.
"""

from collections.abc import Callable

import cv2
import numpy as np
from bench_measures import Clock
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T

from soft_teacher.data.augmentation.photometric import PhotometricTransform
from soft_teacher.data.augmentation.policies import VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)
from soft_teacher.data.images.image import read_image
from soft_teacher.data.mapper import TwoViewDatasetMapper
from soft_teacher.geometry import transform_matrix, weak_to_strong

__all__ = ["HEIGHT", "PARTS", "SHORT_SIDES", "WIDTH", "contenders", "profile"]

SHORT_SIDES = (320, 800)
MAX_SIZE = 1333
WIDTH, HEIGHT = 640, 480
KINDS = {
    ResizeTransform: "resize",
    FlipTransform: "flip",
    PhotometricTransform: "colour",
    AffineTransform: "warp",
    CutoutTransform: "cutout",
}
PARTS = ("decode", "sampling", "weak resize", "weak flip")
PARTS += tuple(f"strong {kind}" for kind in KINDS.values()) + ("matrices",)

Sampler = Callable[[dict], list]


def contenders(short_side: int) -> dict[str, Sampler]:
    """Name -> function of a dataset dict that returns the images it made."""
    ours = {variant: two_views(variant, short_side) for variant in VARIANTS}
    return {"floor": floor(short_side), "stock": stock(short_side), **ours}


def floor(short_side: int) -> Sampler:
    """One view by OpenCV alone, (H, W, 3)."""
    h, w = T.ResizeShortestEdge.get_output_shape(HEIGHT, WIDTH, short_side, MAX_SIZE)
    return lambda d: [cv2.flip(cv2.resize(cv2.imread(d["file_name"]), (w, h)), 1)]


def stock(short_side: int) -> Sampler:
    """A weak and a strong view by Detectron2's mapper; its rotation keeps the size, as ours."""
    weak = [T.ResizeShortestEdge(short_side, MAX_SIZE), T.RandomFlip()]
    strong = [
        T.RandomRotation([-30, 30], expand=False),
        T.RandomContrast(0.1, 1.9),
        T.RandomBrightness(0.1, 1.9),
    ]
    views = (weak, weak + strong)
    mappers = [DatasetMapper(True, augmentations=view, image_format="BGR") for view in views]
    return lambda dataset_dict: [mapper(dataset_dict)["image"] for mapper in mappers]


def two_views(variant: str, short_side: int) -> Sampler:
    """The weak and the strong view of one of our variants."""
    weak, strong = policies(variant, short_side)
    mapper = TwoViewDatasetMapper(
        weak_augmentations=weak, strong_augmentations=strong, image_format="BGR"
    )

    def sample(dataset_dict):
        views = mapper(dataset_dict)
        return [views["weak_image"], views["image"]]

    return sample


def policies(variant: str, short_side: int) -> list[list[T.Augmentation]]:
    """The weak and the strong policy."""
    view = dict(short_edge=short_side, max_size=MAX_SIZE, scale_range=(1, 1))
    return [build_policy(name, variant, **view) for name in ("weak", "strong")]


class _TimedInput(T.AugInput):
    def __init__(self, image: np.ndarray, clock: Clock, view: str):
        super().__init__(image)
        self._clock, self._view = clock, view

    def transform(self, tfm) -> None:
        kind = next((name for kind, name in KINDS.items() if isinstance(tfm, kind)), None)
        with self._clock.part(f"{self._view} {kind}" if kind else "sampling"):
            super().transform(tfm)


def profile(variant: str, short_side: int, dicts: list[dict], rounds: int) -> dict[str, float]:
    """Mean milliseconds of every part of our two-view sample.

    Returns:
        part -> milliseconds: those of ``PARTS``, where "sampling" is to choose and to set up the
        transforms; then "tensors and rest", what the mapper takes beyond them.
    """
    clock = Clock()
    mapper = two_views(variant, short_side)
    weak, strong = map(T.AugmentationList, policies(variant, short_side))
    for i, dataset_dict in enumerate(dicts * rounds):
        np.random.seed(i)
        with clock.part("whole"):
            mapper(dataset_dict)
        np.random.seed(i)
        with clock.part("decode"):
            image = read_image(dataset_dict["file_name"])
        with clock.part("sampling"):
            transforms = [
                weak(_TimedInput(image, clock, "weak")),
                strong(_TimedInput(image, clock, "strong")),
            ]
        with clock.part("matrices"):
            weak_to_strong(*map(transform_matrix, transforms))
    parts = {name: clock.seconds[name] for name in PARTS}
    parts["tensors and rest"] = clock.seconds["whole"] - sum(parts.values())
    return {name: 1000 * seconds / len(dicts) / rounds for name, seconds in parts.items()}
