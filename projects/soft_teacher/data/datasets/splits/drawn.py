"""All splits of a dataset that were asked for."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from .families import (
    FULL,
    SHOTS,
    full_split,
    stac_split,
    unbiased_teacher_split,
    without_replacement_split,
)
from .manifest import Split
from .shots import shots_split
from .source import Source

__all__ = ["drawn_splits"]


def drawn_splits(
    source: Source,
    families: Sequence[str],
    *,
    size: str,
    sizes: Sequence[float],
    folds: Sequence[int],
    unlabeled: Source | None = None,
    index_file: Path | None = None,
) -> Iterator[Split]:
    """A split for each family, size and fold, in this order; "full" is one alone.

    Args:
        source: images to label some of.
        families: each takes this kind of size, see :data:`.families.SIZES`.
        size: "percent", "count" or "shots".
        sizes, folds: values.
        unlabeled: unlabeled images, for "full".
        index_file: for "unbiased_teacher".

    Raises:
        ConfigError: a size or fold is out of range, or the index file does not fit.
    """
    draws = {
        "stac": stac_split,
        "without_replacement": without_replacement_split,
        "unbiased_teacher": partial(unbiased_teacher_split, index_file),
        SHOTS: shots_split,
    }
    for family in families:
        if family == FULL:
            both = f"{source.name} + {unlabeled.name}"
            yield full_split(source.ids[FULL], unlabeled.ids[FULL], source=both)
            continue
        pool = source.pool(family)
        for value in sizes:
            for fold in folds:
                yield draws[family](pool, fold=fold, source=source.name, **{size: value})
