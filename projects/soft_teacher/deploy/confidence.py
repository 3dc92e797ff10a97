"""The score above which a box counts, for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.structures import Instances

from ..utils.checks import shown
from ..utils.errors import ConfigError, did_you_mean

__all__ = ["Confidence"]


@dataclass(frozen=True)
class Confidence:
    """A threshold for each class; a box counts if its score is above it.

    Attributes:
        thresholds: by class number.
    """

    thresholds: tuple[float, ...]

    @classmethod
    def of(
        cls,
        wanted: float | Mapping[str, float] | None,
        class_names: Sequence[str],
        *,
        lowest: float,
        key: str,
    ) -> Confidence:
        """
        Args:
            wanted: a threshold for all classes, or class name -> threshold; None, and classes
                without one, count from ``lowest`` on.
            lowest: the detector drops boxes with a score below it, which the config calls ``key``.

        Raises:
            ConfigError: for an unknown class, no number below 1, or one below ``lowest``.
        """
        named = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(class_names, wanted)
        for name, value in named.items():
            if name not in class_names:
                hint = did_you_mean(name, class_names) or f": they are {shown(list(class_names))}"
                raise ConfigError(f"confidence of '{name}', which is no class{hint}")
            _check(value, lowest, key)
        found = [named.get(name) for name in class_names]
        return cls(tuple(lowest if value is None else float(value) for value in found))

    def lowered(self, margin: float, lowest: float) -> Confidence:
        """Thresholds lower by a margin, but for those that would fall below ``lowest``."""
        return Confidence(tuple(max(t - margin, min(t, lowest)) for t in self.thresholds))

    def distances(self, found: Instances) -> torch.Tensor:
        """(n,) scores less the thresholds of their classes."""
        return found.scores - found.scores.new_tensor(self.thresholds)[found.pred_classes]

    def above(self, found: Instances) -> torch.Tensor:
        """(n,) bool, the boxes that count."""
        return self.distances(found) > 0


def _check(value, lowest: float, key: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ConfigError(f"confidence must be a number from 0 to below 1, got {shown(value)}")
    if value < lowest:
        raise ConfigError(
            f"confidence {value:g} is below {key} ({lowest:g}), which drops such boxes: lower that "
            "key, too"
        )
