"""The difficulty and the size of the embedded digits dataset."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from numbers import Integral, Real

from ..utils.errors import ConfigError

# A rotated, sheared and stretched glyph spans at most about this many times its nominal size.
GLYPH_GROWTH = 1.45
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class DigitsSpec:
    """Everything that decides the bytes of a digits dataset. All lengths are pixels.

    Attributes:
        num_classes: digits 0 .. num_classes - 1 are objects; the others only appear as clutter.
        image_size: side of the square images.
        min_objects, max_objects: range of the number of digits drawn for an image (uniform). A
            digit for which no free place is found is left out.
        digit_size: (smallest, largest) nominal height of a digit, drawn log-uniformly; the boxes
            are tight, so a box may be a few pixels smaller or larger.
        contrast: RMS distance of a digit's colour from the mean colour below it, as a share of
            255, in (0, 1]; every digit jitters it by +-30 %.
        clutter: an image gets 0 .. clutter distractors (photograph patches, strokes and pieces of
            digits outside the class list) underneath its digits.
        num_train, num_unlabeled, num_val: images of each split.
        seed: seed of everything random. Image i of a split does not depend on the other images.

    Raises:
        ConfigError: a field is out of range; the message names the field and the fix.
    """

    num_classes: int = 5
    image_size: int = 128
    min_objects: int = 1
    max_objects: int = 6
    digit_size: tuple[int, int] = (16, 56)
    contrast: float = 0.3
    clutter: int = 4
    num_train: int = 1000
    num_unlabeled: int = 1000
    num_val: int = 500
    seed: int = 0

    def __post_init__(self):
        self._check_types()
        _require(1 <= self.num_classes <= 10, "num_classes", self.num_classes, "use 1 to 10")
        _require(32 <= self.image_size <= 1024, "image_size", self.image_size, "use 32 to 1024")
        _require(self.min_objects >= 0, "min_objects", self.min_objects, "use 0 or more")
        _require(
            max(1, self.min_objects) <= self.max_objects,
            "max_objects",
            self.max_objects,
            f"use max(1, min_objects) = {max(1, self.min_objects)} or more",
        )
        self._check_digit_size()
        _require(0 < self.contrast <= 1, "contrast", self.contrast, "use a share in (0, 1]")
        _require(self.clutter >= 0, "clutter", self.clutter, "use 0 or more")
        _require(self.num_train >= 1, "num_train", self.num_train, "use 1 or more")
        _require(self.num_unlabeled >= 0, "num_unlabeled", self.num_unlabeled, "use 0 or more")
        _require(self.num_val >= 1, "num_val", self.num_val, "use 1 or more")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "use 0 to 2**63 - 1")

    def _check_types(self):
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "digit_size":
                pair = isinstance(value, (tuple, list)) and len(value) == 2
                _require(pair and all(map(_is_int, value)), name, value, "use two whole numbers")
                object.__setattr__(self, name, tuple(int(v) for v in value))
            elif name == "contrast":
                real = isinstance(value, Real) and math.isfinite(value)
                _require(real, name, value, "use a share in (0, 1]")
                object.__setattr__(self, name, float(value))
            else:
                _require(_is_int(value), name, value, "use a whole number")
                object.__setattr__(self, name, int(value))

    def _check_digit_size(self):
        low, high = self.digit_size
        most = int(self.image_size / GLYPH_GROWTH)
        _require(
            8 <= low <= high <= most,
            "digit_size",
            self.digit_size,
            f"use 8 <= smallest <= largest <= {most} (image_size / {GLYPH_GROWTH})",
        )
        crowd = self.max_objects * (GLYPH_GROWTH * low) ** 2
        _require(
            crowd <= 0.5 * self.image_size**2,
            "max_objects",
            self.max_objects,
            "that many of the smallest digits fill the image; lower it or digit_size[0]",
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Category names in the order of the category ids 1 .. num_classes."""
        return CLASS_NAMES[: self.num_classes]

    def to_dict(self) -> dict:
        """The fields as JSON-ready values."""
        return {**asdict(self), "digit_size": list(self.digit_size)}


def _is_int(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _require(condition: bool, field: str, value, fix: str):
    if not condition:
        raise ConfigError(f"DigitsSpec.{field} = {value!r}: {fix}")
