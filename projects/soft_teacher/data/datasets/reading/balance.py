"""How many annotations of a dataset can be used, and why others cannot."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

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
    """An annotation that is not learned from.

    Attributes:
        reason: why.
        what: file, annotation and values.
    """

    reason: Reason
    what: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass
class Balance:
    """Of a dataset's annotations.

    Attributes:
        images: that the dataset has.
        read: annotations that it has.
        dropped: of these, how many cannot be learned from for each reason.
        first: an example of each reason.
    """

    images: int = 0
    read: int = 0
    dropped: Counter = field(default_factory=Counter)
    first: dict[Reason, LeftOut] = field(default_factory=dict)

    @property
    def learned(self) -> int:
        """Annotations that can be learned from."""
        return self.read - self.dropped.total()

    @property
    def measured(self) -> int:
        """Annotations that an evaluation looks at, crowds included."""
        return self.learned + sum(self.dropped[reason] for reason in MEASURED)

    def faulty(self, *, test: bool = False) -> dict[Reason, int]:
        """Reasons that speak of a mistake, and how often; in an evaluation fewer do."""
        fine = MEASURED if test else {Reason.CROWD}
        return {r: self.dropped[r] for r in Reason if self.dropped[r] and r not in fine}

    def __str__(self) -> str:
        """The balance without its examples, for the log."""
        counts = [f"{self.dropped[r]:,} {r}" for r in Reason if self.dropped[r]]
        left_out = f", left out {', '.join(counts)}" if counts else ""
        return (
            f"{self.images:,} images, {self.read:,} annotations, {self.learned:,} to learn from"
            f"{left_out}"
        )
