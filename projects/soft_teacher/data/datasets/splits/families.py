"""Which images of a dataset are labeled: the published families of splits.

A split samples positions in a list of image ids, so the order of that list matters:
``read_coco_ids`` gives the order each family was published with.

===================== ============================ ========================== ======
family                ids                          sampled                    folds
===================== ============================ ========================== ======
stac                  all, in the JSON's order     with replacement, deduped  1 - 5
without_replacement   all, in the JSON's order     without replacement        any
unbiased_teacher      with boxes only, ascending   positions from their file  0 - 9
shots                 all, ascending               k images for every class   any
full                  all of two JSONs             none                       none
===================== ============================ ========================== ======

``shots`` has a module of its own, :mod:`.shots`.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from operator import index
from pathlib import Path

import numpy as np
from detectron2.utils.file_io import PathManager

from ....utils.errors import ConfigError, one_line
from .manifest import Split

__all__ = [
    "FAMILIES",
    "FULL",
    "PARTIAL_FAMILIES",
    "SHOTS",
    "SIZES",
    "checked_ids",
    "coco_errors",
    "coco_ids",
    "full_split",
    "random_state",
    "read_coco_ids",
    "split_name",
    "stac_split",
    "unbiased_teacher_split",
    "without_replacement_split",
]

SHOTS, FULL = "shots", "full"
# Family -> how the size of its labeled part may be given.
SIZES = {
    "stac": ("percent", "count"),
    "without_replacement": ("percent", "count"),
    "unbiased_teacher": ("percent",),
    SHOTS: ("shots",),
}
PARTIAL_FAMILIES = tuple(SIZES)
FAMILIES = (*PARTIAL_FAMILIES, FULL)


def split_name(
    family: str, percent: float | None = None, fold: int | None = None, count: int | None = None
) -> str:
    """``stac_10p_fold1``, ``stac_20_fold1``, ``shots_10_fold1`` or ``full``.

    It is a manifest's file name, and part of its datasets' names. A number with a p is a
    percentage, one without a number of images, for "shots" of each class.
    """
    if family == FULL:
        return FULL
    return f"{family}_{f'{percent:g}p' if count is None else count}_fold{fold}"


def read_coco_ids(json_file: Path | str) -> dict[str, list[int]]:
    """:func:`coco_ids` of a file.

    Raises:
        ConfigError: the file is missing or is no COCO JSON.
    """
    with coco_errors(json_file), PathManager.open(str(json_file)) as file:
        return coco_ids(json.load(file))


def coco_ids(coco: dict) -> dict[str, list[int]]:
    """Image ids of a COCO JSON's content, for each family in the order that it samples from."""
    ids = [index(image["id"]) for image in coco["images"]]
    annotations = coco.get("annotations", ())
    with_boxes = {a["image_id"] for a in annotations if not a.get("iscrowd", 0)}
    ascending = sorted(with_boxes.intersection(ids))
    return {family: ascending if family == "unbiased_teacher" else ids for family in FAMILIES}


@contextmanager
def coco_errors(json_file: Path | str):
    """Reports in one line what keeps a file from being read as COCO JSON."""
    try:
        yield
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{json_file} cannot be read as COCO JSON: {one_line(error)}") from error


def stac_split(
    image_ids: Sequence[int],
    percent: float | None = None,
    fold: int = 1,
    *,
    count: int | None = None,
    source: str = "",
    replace: bool = True,
) -> Split:
    """STAC's split: sampled with replacement, so that fewer images than samples are labeled.

    Args:
        image_ids: all images, in the order of the JSON.
        percent: in (0, 100], or else
        count: number of samples.
        fold: seed of numpy's legacy generator; published are 1 to 5.
        source: recorded in the split.
        replace: False samples without replacement: exactly ``count`` images are labeled.

    Raises:
        ConfigError: an argument is out of range.
    """
    ids = checked_ids(image_ids)
    size = _labeled_count(len(ids), percent, count)
    chosen = random_state(fold).choice(len(ids), size=size, replace=replace)
    family = "stac" if replace else "without_replacement"
    return _split(
        ids, chosen, source=source, family=family, percent=percent, count=count, fold=fold
    )


# Of N images exactly ``count`` or int(percent / 100 * N) are labeled.
without_replacement_split = partial(stac_split, replace=False)


def unbiased_teacher_split(
    index_file: Path | str,
    image_ids: Sequence[int],
    percent: float,
    fold: int,
    *,
    source: str = "",
) -> Split:
    """Unbiased Teacher's published split.

    Args:
        index_file: their COCO_supervision.txt: {"10.0": {"1": [position, ...]}}.
        image_ids: ids of the images with boxes, ascending (117,266 of train2017), because the
            positions count in that list.
        percent, fold: entry to take.
        source: recorded in the split.

    Raises:
        ConfigError: the file cannot be read, lacks the entry, or does not fit ``image_ids``.
    """
    ids = checked_ids(image_ids)
    positions = _published_positions(index_file, percent, fold)
    expected = _labeled_count(len(ids), percent, None)
    fits = len(set(positions)) == len(positions) == expected
    if not fits or min(positions) < 0 or max(positions) >= len(ids):
        raise ConfigError(
            f"{index_file}: {len(positions)} positions at {percent:g} % do not fit {len(ids)} "
            "images: it was made for the images with boxes of COCO's train2017 (117266), ascending"
        )
    family = "unbiased_teacher"
    return _split(ids, positions, source=source, family=family, percent=percent, fold=fold)


def full_split(
    labeled_ids: Sequence[int], unlabeled_ids: Sequence[int], *, source: str = ""
) -> Split:
    """All images of one dataset labeled, all images of another one unlabeled.

    Args:
        labeled_ids, unlabeled_ids: image ids; those of one dataset may occur in the other.

    Raises:
        ConfigError: one of the two is empty, or an id is twice in it.
    """
    return Split(
        source=source,
        family=FULL,
        percent=100.0,
        count=None,
        fold=None,
        labeled=tuple(sorted(checked_ids(labeled_ids))),
        unlabeled=tuple(sorted(checked_ids(unlabeled_ids))),
    )


def random_state(fold: int) -> np.random.RandomState:
    """The stream that np.random.seed(fold) starts, without touching the global one."""
    if not 0 <= fold < 2**32:
        raise ConfigError(f"fold = {fold}: use 0 to 2**32 - 1")
    return np.random.RandomState(fold)


def checked_ids(image_ids: Iterable[int]) -> list[int]:
    """The ids as a list. Raises ConfigError unless there are some, each once."""
    ids = [index(i) for i in image_ids]
    if not ids:
        raise ConfigError("a split needs at least one image (unbiased_teacher: one with boxes)")
    if len(set(ids)) != len(ids):
        raise ConfigError(f"{len(ids) - len(set(ids))} image ids occur more than once")
    return ids


def _labeled_count(total: int, percent: float | None, count: int | None) -> int:
    if (percent is None) == (count is None):
        raise ConfigError("give either percent or count")
    if count is not None:
        if not 1 <= count <= total:
            raise ConfigError(f"count = {count}: use 1 to {total}, the number of images")
        return int(count)
    if not 0 < percent <= 100:
        raise ConfigError(f"percent = {percent}: use more than 0 and at most 100")
    # Truncated, as all the published splits are.
    size = int(percent / 100.0 * total)
    if size < 1:
        raise ConfigError(f"percent = {percent:g} of {total} images is none: use a larger share")
    return size


def _published_positions(index_file: Path | str, percent: float, fold: int) -> list[int]:
    try:
        with PathManager.open(str(index_file)) as file:
            content = json.load(file)
        folds = {float(key): entry for key, entry in content.items()}
        by_fold = folds.get(float(percent), {})
        positions = [index(p) for p in by_fold.get(str(fold), [])]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index_file} is no index file: {one_line(error)}") from error
    if not by_fold:
        raise ConfigError(f"{index_file} has no {percent:g} %: it has {', '.join(content)}")
    if not positions:
        raise ConfigError(f"{index_file} has no fold {fold}: it has {', '.join(by_fold)}")
    return positions


def _split(
    ids: Sequence[int], positions: Iterable[int], *, source, family, percent, count=None, fold
) -> Split:
    chosen = {ids[p] for p in positions}
    return Split(
        source=str(source),
        family=family,
        percent=None if percent is None else float(percent),
        count=None if count is None else int(count),
        fold=int(fold),
        labeled=tuple(sorted(chosen)),
        unlabeled=tuple(sorted(set(ids) - chosen)),
    )
