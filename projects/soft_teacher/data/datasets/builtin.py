"""Datasets that configs can name without writing code, and how packages add theirs."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from .splits.registration import register_split

__all__ = [
    "BuiltIn",
    "add_builtin",
    "dataset_root",
    "missing_dataset_hint",
    "register_builtin",
    "register_manifests",
]


@dataclass(frozen=True)
class BuiltIn:
    """Datasets whose names share a prefix.

    Attributes:
        register: takes $DETECTRON2_DATASETS and registers what is there; called again where that
            changes.
        hint: name of a dataset that is missing -> the command that makes it, or nothing.
    """

    register: Callable[[Path], None]
    hint: Callable[[str], str]


_BUILTIN: dict[str, BuiltIn] = {}


def add_builtin(prefix: str, found: BuiltIn) -> None:
    """Makes datasets built in whose names start with a prefix, which no other has."""
    _BUILTIN[prefix] = found


def dataset_root() -> Path:
    """$DETECTRON2_DATASETS, or ``datasets`` in the working directory, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_builtin() -> None:
    """Registers what configs name, for the $DETECTRON2_DATASETS of now; repeating it is fine.

    No split's manifest is opened: it is read and verified when its dataset is loaded.

    Raises:
        ConfigError: one of the names is taken by something else.
    """
    for prefix, found in _BUILTIN.items():
        _forget(prefix)
        found.register(dataset_root())


def missing_dataset_hint(name: str) -> str:
    """How to make a dataset that ``register_builtin`` would have registered.

    Returns:
        a hint that starts with ": run", empty for names of other kinds.
    """
    for prefix, found in _BUILTIN.items():
        if name.startswith(prefix):
            return found.hint(name)
    return ""


def register_manifests(prefix: str, source: str, folder: Path, **unlabeled_sources: str) -> None:
    """Registers ``PREFIX_NAME_labeled`` and ``_unlabeled`` for each manifest ``NAME.json``.

    Args:
        prefix: of the names, without the last underscore.
        source: dataset that the manifests split.
        folder: of the manifests.
        unlabeled_sources: manifest -> dataset that its unlabeled images are from, where that is
            another one.
    """
    for manifest in sorted(folder.glob("*.json")):
        pool = unlabeled_sources.get(manifest.stem)
        name = f"{prefix}_{manifest.stem}"
        for registered in register_split(name, source, manifest, unlabeled_source=pool):
            MetadataCatalog.get(registered).built_in = True


def _forget(prefix: str) -> None:
    """Removes what an earlier call registered, perhaps for another folder."""
    for name in [n for n in DatasetCatalog.list() if n.startswith(prefix)]:
        if MetadataCatalog.get(name).get("built_in"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
