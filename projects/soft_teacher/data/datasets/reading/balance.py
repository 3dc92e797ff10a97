"""How many annotations of a dataset can be used, and why others cannot."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

__all__ = ["Balance", "LeftOut", "MEASURED", "Reason"]


class Reason(StrEnum):
    """Why an annotation is not learned from."""

    IMAGE = "of an unknown image"
    CLASS = "of an unknown class"
    NUMBERS = "with unusable numbers"
    EXTENT = "without width or height"
    OUTSIDE = "outside the image"
    PIXEL = "below a pixel"
    CROWD = "crowd"


# What COCO's evaluation has its own rules for.
MEASURED = frozenset({Reason.PIXEL, Reason.CROWD})


@dataclass(frozen=True)
class LeftOut:
    """An annotation that is not learned from: why, and its file, id and values."""

    reason: Reason
    what: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass
class Balance:
    """Numbers of a dataset's images and annotations, and what is left out of the latter."""

    images: int = 0
    read: int = 0
    left_out: list[LeftOut] = field(default_factory=list, repr=False)

    @cached_property
    def dropped(self) -> Counter:
        """How many annotations cannot be learned from for each reason."""
        return Counter(found.reason for found in self.left_out)

    @cached_property
    def first(self) -> dict[Reason, LeftOut]:
        """The first example of each reason."""
        return {found.reason: found for found in reversed(self.left_out)}

    @property
    def learned(self) -> int:
        """Annotations that can be learned from."""
        return self.read - len(self.left_out)

    @property
    def measured(self) -> int:
        """Annotations that an evaluation uses, crowds included."""
        return self.learned + sum(self.dropped[reason] for reason in MEASURED)

    def faulty(self, *, test: bool = False) -> dict[Reason, int]:
        """Reasons that indicate a mistake, and how often; in an evaluation fewer do."""
        fine = MEASURED if test else {Reason.CROWD}
        return {r: self.dropped[r] for r in Reason if self.dropped[r] and r not in fine}

    def __str__(self) -> str:
        """The balance without its examples, for the log."""
        counts = ", ".join(f"{self.dropped[r]:,} {r}" for r in Reason if self.dropped[r])
        known = f"{self.images:,} images, {self.read:,} annotations, {self.learned:,} to learn from"
        return known + (f", left out {counts}" if counts else "")
