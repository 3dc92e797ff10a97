"""The views of a multi-scale test: an image in several sizes, and mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T

from ..geometry import transform_matrix
from ..utils.errors import ConfigError
from .augmentation.spatial import NonEmptyResize, RandomHorizontalFlip
from .mapper import augmented

__all__ = ["MultiScale", "View"]


@dataclass(frozen=True)
class View:
    """How a detector sees an image once.

    Attributes:
        image: uint8 (C, h, w).
        matrix: float64 (3, 3), absolute pixels of the image to those of the view.
        box_sizes: [low, high) of the sides, sqrt(area) in pixels of the image, of the boxes that
            the view contributes; None for all.
    """

    image: torch.Tensor
    matrix: np.ndarray
    box_sizes: tuple[float, float] | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return tuple(self.image.shape[1:])

    @property
    def is_mirrored(self) -> bool:
        return self.matrix[0, 0] < 0


class MultiScale:
    """Scales, each alone or followed by its mirror image. Views are made one at a time."""

    @configurable
    def __init__(
        self,
        *,
        min_sizes: Sequence[int],
        max_size: int,
        flip: bool = True,
        max_sizes: Sequence[int] = (),
        box_sizes: Sequence[Sequence[float]] = (),
    ):
        """
        Args:
            min_sizes: of the short edge in pixels, one a scale.
            max_size: of the long edge.
            flip: look at the mirror image of every scale, too.
            max_sizes: one for each scale, in the place of ``max_size``.
            box_sizes: one (low, high) for each scale, see :class:`View`; none lets all contribute
                all boxes.

        Raises:
            ConfigError: for settings that contradict each other, naming the parameter.
        """
        for name, items in (("max_sizes", max_sizes), ("box_sizes", box_sizes)):
            if len(items) not in (0, len(min_sizes)):
                raise ConfigError(
                    f"MultiScale.{name} must be empty or have {len(min_sizes)} items, one for each "
                    f"of MultiScale.min_sizes, got {len(items)}"
                )
        for low, high in box_sizes:
            if not low < high:
                raise ConfigError(f"MultiScale.box_sizes has an empty range, {low} to {high}")
        self.min_sizes = list(min_sizes)
        self.max_sizes = list(max_sizes) or [max_size] * len(min_sizes)
        self.flip = flip
        self.box_sizes = [tuple(pair) for pair in box_sizes] or [None] * len(min_sizes)

    @classmethod
    def from_config(cls, cfg):
        aug = cfg.TEST.AUG
        return {
            "min_sizes": aug.MIN_SIZES,
            "max_size": aug.MAX_SIZE,
            "flip": aug.FLIP,
            "max_sizes": aug.MAX_SIZES,
            "box_sizes": aug.BOX_SIZES,
        }

    def __len__(self) -> int:
        return len(self.min_sizes) * (1 + self.flip)

    def view(self, image: np.ndarray, number: int) -> View:
        """The view of a number below ``len(self)`` of an image, uint8 (H, W, C)."""
        scale, mirrored = divmod(number, 1 + self.flip)
        resize = NonEmptyResize(self.min_sizes[scale], self.max_sizes[scale])
        augmentations = [resize, RandomHorizontalFlip(prob=1.0)] if mirrored else [resize]
        seen, transforms = augmented(T.AugmentationList(augmentations), image)
        return View(seen, transform_matrix(transforms), self.box_sizes[scale])
