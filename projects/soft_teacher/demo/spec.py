"""Difficulty and size of the embedded digits dataset."""

from dataclasses import asdict, dataclass

from ..utils.checks import Each, Number
from ..utils.errors import ConfigError

__all__ = ["CLASS_NAMES", "DigitsSpec"]

# A rotated, sheared and stretched glyph spans at most about this many times its nominal size.
GLYPH_GROWTH = 1.45
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNT = Number(low=0, whole=True)
POSITIVE = Number(low=1, whole=True)
CHECKS = {
    "num_classes": Number(low=1, high=len(CLASS_NAMES), whole=True),
    "image_size": Number(low=32, high=1024, whole=True),
    "min_objects": COUNT,
    "max_objects": POSITIVE,
    "digit_size": Each(Number(low=8, whole=True), length=2),
    "contrast": Number(above=0, high=1),
    "clutter": COUNT,
    "num_train": POSITIVE,
    "num_unlabeled": COUNT,
    "num_val": POSITIVE,
    "seed": COUNT,
}
# Plain Python's, for JSON; all others are int.
KINDS = {"digit_size": lambda pair: tuple(map(int, pair)), "contrast": float}


@dataclass(frozen=True)
class DigitsSpec:
    """Everything that decides the bytes of a digits dataset. All lengths are pixels.

    Attributes:
        num_classes: digits 0 .. num_classes - 1 are objects; the others only appear as clutter.
        image_size: side of the square images.
        min_objects, max_objects: range of the number of digits sampled for an image (uniform). A
            digit for which no free place is found is left out.
        digit_size: (smallest, largest) nominal height of a digit, sampled log-uniformly; the boxes
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
        for name, check in CHECKS.items():
            value = getattr(self, name)
            check(f"DigitsSpec.{name}", value)
            object.__setattr__(self, name, KINDS.get(name, int)(value))
        if self.min_objects > self.max_objects:
            raise ConfigError(
                f"DigitsSpec.max_objects must be at least min_objects ({self.min_objects}), got "
                f"{self.max_objects}"
            )
        low, high = self.digit_size
        most = int(self.image_size / GLYPH_GROWTH)
        if not low <= high <= most:
            raise ConfigError(
                f"DigitsSpec.digit_size must ascend to at most {most} (image_size / "
                f"{GLYPH_GROWTH}), got {self.digit_size}"
            )
        if self.max_objects * (GLYPH_GROWTH * low) ** 2 > 0.5 * self.image_size**2:
            raise ConfigError(
                f"DigitsSpec.max_objects: {self.max_objects} of the smallest digits fill the "
                "image, lower it or digit_size[0]"
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Category names in the order of the category ids 1 .. num_classes."""
        return CLASS_NAMES[: self.num_classes]

    def to_dict(self) -> dict:
        """The fields as JSON-ready values."""
        return {**asdict(self), "digit_size": list(self.digit_size)}
