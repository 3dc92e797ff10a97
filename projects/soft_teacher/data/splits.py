"""Which images of a dataset are labeled: the three published families, and how they
are applied to Detectron2 datasets.

A split is drawn over positions in a list of image ids, so the order of that list matters:
``coco_image_ids`` gives the order each family was published with.

===================== ============================ ========================== ======
family                ids                          draw                       folds
===================== ============================ ========================== ======
stac                  all, in the JSON's order     with replacement, deduped  1 - 5
without_replacement   all, in the JSON's order     without replacement        any
unbiased_teacher      with boxes only, ascending   positions from their file  0 - 9
===================== ============================ ========================== ======
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..errors import ConfigError, one_line
from .split_manifest import Split, read_manifest, write_manifest

__all__ = [
    "Split",
    "apply_split",
    "coco_image_ids",
    "read_manifest",
    "register_split",
    "stac_split",
    "unbiased_teacher_split",
    "without_replacement_split",
    "write_manifest",
]

GROUND_TRUTH = ("annotations", "segments_info", "sem_seg_file_name", "pan_seg_file_name")


def coco_image_ids(json_file: Path | str, family: str = "stac") -> list[int]:
    """Image ids of a COCO JSON in the order that a family of splits is drawn over.

    Raises:
        OSError, KeyError, ValueError: the file is missing or is no COCO JSON.
    """
    with PathManager.open(str(json_file)) as file:
        coco = json.load(file)
    ids = [image["id"] for image in coco["images"]]
    if family != "unbiased_teacher":
        return ids
    with_boxes = {a["image_id"] for a in coco["annotations"] if not a.get("iscrowd", 0)}
    return sorted(with_boxes.intersection(ids))


def stac_split(
    image_ids: Sequence[int],
    percent: float | None = None,
    fold: int = 1,
    *,
    count: int | None = None,
    source: str = "",
) -> Split:
    """STAC's split: draws with replacement, so fewer images than draws are labeled.

    Args:
        image_ids: all images, in the order of the JSON.
        percent: in (0, 100], or else
        count: number of draws.
        fold: seed of numpy's legacy generator; published are 1 to 5.
        source: recorded in the split.

    Raises:
        ConfigError: an argument is out of range.
    """
    ids = _checked_ids(image_ids)
    draws = _labeled_count(len(ids), percent, count)
    chosen = _generator(fold).choice(len(ids), size=draws)
    return _split(ids, chosen, source, "stac", percent, count, fold)


def without_replacement_split(
    image_ids: Sequence[int],
    percent: float | None = None,
    fold: int = 1,
    *,
    count: int | None = None,
    source: str = "",
) -> Split:
    """Exactly ``count`` or int(percent / 100 * N) labeled images; arguments as ``stac_split``."""
    ids = _checked_ids(image_ids)
    size = _labeled_count(len(ids), percent, count)
    chosen = _generator(fold).choice(len(ids), size=size, replace=False)
    return _split(ids, chosen, source, "without_replacement", percent, count, fold)


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
    ids = _checked_ids(image_ids)
    positions = _published_positions(index_file, percent, fold)
    expected = _labeled_count(len(ids), percent, None)
    fits = len(positions) == expected and 0 <= min(positions) and max(positions) < len(ids)
    if not fits:
        raise ConfigError(
            f"{index_file}: {len(positions)} positions at {percent} % do not fit {len(ids)} "
            "images: pass the ids of the images with boxes, ascending (see coco_image_ids)"
        )
    return _split(ids, positions, source, "unbiased_teacher", percent, None, fold)


def apply_split(dataset_dicts: Iterable[dict], split: Split) -> tuple[list[dict], list[dict]]:
    """Divide Detectron2 dataset dicts by ``image_id``.

    Dicts that the split does not name are left out (the families differ in the images they know).

    Returns:
        (labeled dicts, unlabeled dicts without ground truth), each in the order of the split.

    Raises:
        ConfigError: an id of the split is missing or occurs twice.
    """
    by_id: dict[int, dict] = {}
    for record in dataset_dicts:
        if by_id.setdefault(record["image_id"], record) is not record:
            raise ConfigError(f"split of '{split.source}': image id {record['image_id']} is twice")
    missing = [i for i in split.labeled + split.unlabeled if i not in by_id]
    if missing:
        raise ConfigError(
            f"split of '{split.source}': {len(missing)} of its image ids are not in the dataset, "
            f"first {missing[0]}: use the dataset that the split was made from"
        )
    labeled = [by_id[i] for i in split.labeled]
    return labeled, [_without_ground_truth(by_id[i]) for i in split.unlabeled]


def register_split(
    name_prefix: str, source_dataset_name: str, manifest: Split | Path | str
) -> tuple[str, str]:
    """Register ``<prefix>_labeled`` and ``<prefix>_unlabeled`` lazily; repeating it is fine.

    The source's metadata (classes, JSON, evaluator type) is copied now as far as it is known, and
    completed when the source has been loaded.

    Raises:
        ConfigError: a bad manifest, an unknown source, or a name taken by another split.
    """
    split = manifest if isinstance(manifest, Split) else read_manifest(manifest)
    if source_dataset_name not in DatasetCatalog.list():
        raise ConfigError(f"'{source_dataset_name}' is not a registered dataset")
    names = f"{name_prefix}_labeled", f"{name_prefix}_unlabeled"
    origin = f"{source_dataset_name}:{split.sha256}"
    for name in names:
        known = MetadataCatalog.get(name).get("split_origin") if _is_registered(name) else origin
        if known != origin:
            raise ConfigError(f"dataset '{name}' is registered for another split")
    for part, name in enumerate(names):
        if not _is_registered(name):
            DatasetCatalog.register(name, partial(_load, name, source_dataset_name, split, part))
        MetadataCatalog.get(name).set(split_origin=origin)
        _copy_metadata(source_dataset_name, name)
    return names


def _load(name: str, source: str, split: Split, part: int) -> list[dict]:
    dicts = apply_split(DatasetCatalog.get(source), split)[part]
    _copy_metadata(source, name)
    return dicts


def _copy_metadata(source: str, name: str):
    known = MetadataCatalog.get(source).as_dict()
    MetadataCatalog.get(name).set(**{k: v for k, v in known.items() if k != "name"})


def _is_registered(name: str) -> bool:
    return name in DatasetCatalog.list()


def _without_ground_truth(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in GROUND_TRUTH}


def _checked_ids(image_ids: Sequence[int]) -> list[int]:
    ids = [int(i) for i in image_ids]
    if not ids:
        raise ConfigError("a split needs at least one image id")
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
        raise ConfigError(f"percent = {percent} of {total} images is none: use count instead")
    return size


def _generator(fold: int) -> np.random.RandomState:
    """The stream that ``np.random.seed(fold)`` starts, without touching the global one."""
    if not 0 <= fold < 2**32:
        raise ConfigError(f"fold = {fold}: use 0 to 2**32 - 1")
    return np.random.RandomState(fold)


def _published_positions(index_file: Path | str, percent: float, fold: int) -> list[int]:
    try:
        with PathManager.open(str(index_file)) as file:
            index = json.load(file)
        folds = {float(key): entry for key, entry in index.items()}
        by_fold = folds.get(float(percent), {})
        positions = [int(p) for p in by_fold.get(str(fold), [])]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{index_file} is no index file: {one_line(error)}") from error
    if not by_fold:
        raise ConfigError(f"{index_file} has no {percent} %: it has {', '.join(index)}")
    if not positions:
        raise ConfigError(f"{index_file} has no fold {fold}: it has {', '.join(by_fold)}")
    return positions


def _split(ids, positions, source, family, percent, count, fold) -> Split:
    chosen = {int(p) for p in positions}
    return Split(
        source=str(source),
        family=family,
        percent=None if percent is None else float(percent),
        count=None if count is None else int(count),
        fold=int(fold),
        labeled=tuple(i for p, i in enumerate(ids) if p in chosen),
        unlabeled=tuple(i for p, i in enumerate(ids) if p not in chosen),
    )
