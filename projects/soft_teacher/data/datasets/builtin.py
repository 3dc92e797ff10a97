"""Datasets that configs can name without writing code, and how packages add theirs."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from detectron2.data import DatasetCatalog, MetadataCatalog

from .splits.registration import register_split

__all__ = [
    "add_builtin",
    "dataset_root",
    "missing_dataset_hint",
    "register_builtin",
    "register_manifests",
]


# Prefix of names -> what add_builtin was given.
_BUILTIN: dict[str, tuple[Callable[[], None], Callable[[str], str]]] = {}


def add_builtin(prefix: str, register: Callable[[], None], hint: Callable[[str], str]) -> None:
    """Makes datasets built in whose names start with a prefix of their own.

    Args:
        register: registers what is in :func:`dataset_root`; called again where that changes.
        hint: name of a dataset that is missing -> the command that makes it, or nothing.
    """
    _BUILTIN[prefix] = register, hint


def dataset_root() -> Path:
    """$DETECTRON2_DATASETS, or ``datasets`` in the working directory, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_builtin() -> None:
    """Registers what configs name, for the $DETECTRON2_DATASETS of now; repeating it is fine.

    No split's manifest is opened: it is read and verified when its dataset is loaded.

    Raises:
        ConfigError: one of the names is taken by something else.
    """
    for prefix, (register, _) in _BUILTIN.items():
        # What an earlier call registered, perhaps for another folder.
        for name in [n for n in DatasetCatalog.list() if n.startswith(prefix)]:
            if MetadataCatalog.get(name).get("built_in"):
                DatasetCatalog.remove(name)
                MetadataCatalog.remove(name)
        register()


def missing_dataset_hint(name: str) -> str:
    """ ": run COMMAND", which makes a missing built-in dataset; empty for names of other kinds."""
    hints = (hint(name) for prefix, (_, hint) in _BUILTIN.items() if name.startswith(prefix))
    return next(hints, "")


def register_manifests(
    prefix: str,
    source: str,
    folder: Path,
    unlabeled_sources: Mapping[str, str] = MappingProxyType({}),
) -> None:
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
