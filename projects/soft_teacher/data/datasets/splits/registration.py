"""Splits as Detectron2 datasets, read and verified when they are first loaded."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ....utils.errors import ConfigError
from ...unlabeled_annotations import HIDDEN_ANNOTATIONS
from ..loading import load_dicts
from .manifest import Split, read_manifest

__all__ = ["PARTS", "apply_split", "register_split", "without_ground_truth"]

PARTS = ("labeled", "unlabeled")
GROUND_TRUTH = ("annotations", "segments_info", "sem_seg_file_name", "pan_seg_file_name")
# Metadata that belong to one name and are not handed on.
OWN_METADATA = ("name", "split_origin", "built_in")


def apply_split(dataset_dicts: Iterable[dict], split: Split, part: str) -> list[dict]:
    """The "labeled" or the "unlabeled" part of Detectron2 dataset dicts, by ``image_id``.

    Dicts that the part does not name are left out.

    Returns:
        dicts in the order of the split; unlabeled ones are copies with held-out annotations.

    Raises:
        ConfigError: an id of the part is missing, or the dataset has an id twice.
    """
    by_id: dict[int, dict] = {}
    for record in dataset_dicts:
        if by_id.setdefault(record["image_id"], record) is not record:
            raise ConfigError(f"split of '{split.source}': image id {record['image_id']} is twice")
    ids = getattr(split, part)
    missing = [i for i in ids if i not in by_id]
    if missing:
        raise ConfigError(
            f"split of '{split.source}': {len(missing)} of its {part} image ids are not in the "
            f"dataset, first {missing[0]}: use the dataset that the split was made from"
        )
    chosen = [by_id[i] for i in ids]
    return chosen if part == "labeled" else [_held_out(d) for d in chosen]


def without_ground_truth(record: dict) -> dict:
    """A copy of a dataset dict that holds no labels."""
    return {k: v for k, v in record.items() if k not in GROUND_TRUTH}


def _held_out(record: dict) -> dict:
    """A copy whose annotations, if it has any, are under a key that training does not read."""
    held_out = {HIDDEN_ANNOTATIONS: record["annotations"]} if "annotations" in record else {}
    return {**without_ground_truth(record), **held_out}


def register_split(
    name_prefix: str,
    source: str,
    manifest: Split | Path | str,
    *,
    unlabeled_source: str | None = None,
) -> tuple[str, str]:
    """Register ``<prefix>_labeled`` and ``<prefix>_unlabeled`` lazily; repeating it is fine.

    No file is opened here: a manifest given as a path is read and verified at every load. The
    source's metadata (classes, JSON, evaluator type) is copied now as far as it is known, and
    completed when the source has been loaded.

    Args:
        name_prefix: of the two names.
        source: registered dataset that the split divides.
        manifest: the split, or its file.
        unlabeled_source: registered dataset of the unlabeled images, if it is another one.

    Returns:
        the two names.

    Raises:
        ConfigError: an unknown source, or a name taken by something else.
    """
    held = manifest.sha256 if isinstance(manifest, Split) else os.path.abspath(manifest)
    names = tuple(f"{name_prefix}_{part}" for part in PARTS)
    datasets = (source, unlabeled_source or source)
    unknown = [dataset for dataset in datasets if dataset not in DatasetCatalog.list()]
    if unknown:
        raise ConfigError(f"'{unknown[0]}' is not a registered dataset")
    for name, part, dataset in zip(names, PARTS, datasets):
        origin = f"{dataset}:{held}"
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(_load, name, dataset, manifest, part))
            MetadataCatalog.get(name).split_origin = origin
        elif MetadataCatalog.get(name).get("split_origin") != origin:
            raise ConfigError(
                f"dataset '{name}' is registered for another split: rename one of them"
            )
        _copy_metadata(dataset, name)
    return names


def _load(name: str, source: str, manifest: Split | Path | str, part: str) -> list[dict]:
    split = manifest if isinstance(manifest, Split) else read_manifest(manifest)
    dicts = apply_split(load_dicts(source), split, part)
    _copy_metadata(source, name)
    return dicts


def _copy_metadata(source: str, name: str):
    known = MetadataCatalog.get(source).as_dict()
    MetadataCatalog.get(name).set(**{k: v for k, v in known.items() if k not in OWN_METADATA})
