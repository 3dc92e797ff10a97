"""Means over seeds, differences between rows, and how their order compares with the paper's."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

__all__ = ["Estimate", "Pair", "difference", "kendall_tau", "pairs", "summary"]

# Standard errors that a difference must exceed to be more than noise.
NOISE = 2.0
Scores = Mapping[int, float]


class Estimate(NamedTuple):
    """A mean with its spread: a standard deviation or a standard error, None for one value."""

    mean: float
    spread: float | None
    count: int


def summary(values: Sequence[float]) -> Estimate | None:
    """Mean and sample standard deviation; None of nothing."""
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), spread, len(values))


def difference(scores: Scores, base: Scores) -> Estimate | None:
    """Mean of ``scores - base`` over the seeds of both, and its standard error.

    Runs of one seed share their labeled images, so what a fold is easier or harder by cancels.
    """
    found = summary([scores[seed] - base[seed] for seed in sorted(set(scores) & set(base))])
    if found is None or found.spread is None:
        return found
    return found._replace(spread=found.spread / math.sqrt(found.count))


@dataclass(frozen=True)
class Pair:
    """Two rows of a table, the one that is better in the paper first."""

    better: str
    worse: str
    paper: float  # how much better
    measured: Estimate  # the paired difference here

    @property
    def agrees(self) -> bool:
        """Whether the order here is the paper's."""
        return self.measured.mean > 0

    @property
    def is_noise(self) -> bool | None:
        """Whether the difference is within two standard errors; None for a single seed."""
        spread = self.measured.spread
        return None if spread is None else abs(self.measured.mean) <= NOISE * spread


def pairs(paper: Mapping[str, float], scores: Mapping[str, Scores]) -> list[Pair]:
    """All pairs of rows that have common seeds and that differ in the paper.

    Args:
        paper: row -> AP there.
        scores: row -> seed -> AP here.
    """
    found = []
    for one, other in combinations(paper, 2):
        better, worse = (one, other) if paper[one] > paper[other] else (other, one)
        measured = difference(scores.get(better, {}), scores.get(worse, {}))
        if measured is not None and paper[better] != paper[worse]:
            found.append(Pair(better, worse, paper[better] - paper[worse], measured))
    return found


def kendall_tau(found: Sequence[Pair]) -> float | None:
    """Pairs in the paper's order minus pairs in the other, as a share of all; None of none."""
    if not found:
        return None
    return sum((p.measured.mean > 0) - (p.measured.mean < 0) for p in found) / len(found)
