"""Datasets that configs can name without writing code: the digits and their splits."""

import os
from pathlib import Path

from .digits import register_digits
from .splits import register_split

__all__ = ["dataset_root", "register_builtin"]


def dataset_root() -> Path:
    """$DETECTRON2_DATASETS, or ``datasets`` in the working directory, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_builtin() -> None:
    """Registers what has been made: ``digits_train``, ``_unlabeled``, ``_unlabeled_gt``, ``_val``.

    A manifest ``digits/splits/NAME.json`` adds ``digits_NAME_labeled`` and
    ``digits_NAME_unlabeled``. Nothing is registered where nothing was generated.
    """
    root = dataset_root() / "digits"
    if not (root / "spec.json").is_file():
        return
    register_digits(root)
    for manifest in sorted((root / "splits").glob("*.json")):
        register_split(f"digits_{manifest.stem}", "digits_train", manifest)
