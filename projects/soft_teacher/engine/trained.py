"""A trained model and what it takes to look at it."""

from dataclasses import dataclass
from typing import Callable

from ..modeling import BoxJitter, SoftTeacher

__all__ = ["Trained"]


@dataclass(frozen=True)
class Trained:
    """What a config and its weights stand for, whichever language the config speaks.

    Attributes:
        model: in eval mode, on its device.
        weights: where they came from.
        mapper: dataset dict -> sample whose ``image`` is the test view.
        num_workers: processes that load images.
        jitter: measures box regression variance with the config's settings, also where the
            training goes without.
    """

    model: SoftTeacher
    weights: str
    mapper: Callable[[dict], dict]
    num_workers: int
    jitter: BoxJitter

    @property
    def num_classes(self) -> int:
        """Of both networks."""
        return self.model.student.roi_heads.num_classes
