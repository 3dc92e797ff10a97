"""The embedded dataset as demo and replication use it: built in as ``digits_...``."""

from collections.abc import Callable
from pathlib import Path

from ..data.datasets.builtin import add_builtin, dataset_root, register_manifests
from ..data.datasets.splits.families import read_coco_ids, without_replacement_split
from ..data.datasets.splits.manifest import write_manifest
from .digits import DigitsSpec, generate, is_generated, register_digits

__all__ = [
    "DEMO_IMAGES",
    "SPEC",
    "demo_datasets",
    "demo_split",
    "digits_files",
    "make_digits",
    "make_split",
]

SPEC = DigitsSpec(contrast=0.6, clutter=2, digit_size=(20, 56), min_objects=2, max_objects=5)
IMAGES_BETWEEN_LINES = 500
DEMO_IMAGES = 20  # with labels


def digits_root() -> Path:
    return dataset_root() / "digits"


def make_digits(say: Callable[[str], None], data_seed: int = 0) -> None:
    """Generates the dataset in its folder, unless it exists.

    Args:
        say: prints a line.
        data_seed: seed of the dataset.
    """

    def progress(done: int, total: int) -> None:
        if done % IMAGES_BETWEEN_LINES == 0 or done == total:
            say(f"  {done}/{total} images")

    say(f"dataset: {digits_root()}")
    generate(digits_root(), DigitsSpec(**{**SPEC.to_dict(), "seed": data_seed}), progress=progress)


def make_split(name: str, fold: int, **size) -> None:
    """A split of the training images under a name of its own.

    Args:
        name: of the manifest; its datasets are ``digits_NAME_labeled`` and ``_unlabeled``.
        fold: seed of the sample.
        size: ``percent`` or ``count`` of labeled images.
    """
    ids = read_coco_ids(digits_root() / "annotations" / "train.json")["without_replacement"]
    split = without_replacement_split(ids, fold=fold, source="digits_train", **size)
    write_manifest(split, split_file(name))


def demo_split(seed: int) -> str:
    """Name of the split of the digits that the demo learns from with a seed."""
    return f"fold{seed + 1}"


def demo_datasets(seed: int, *, unlabeled: bool) -> list[str]:
    """Overrides of a demo config: the images of a seed's fold, those without labels as wanted."""
    split = demo_split(seed)
    found = ["DATASETS.TRAIN_LABELED", f"('digits_{split}_labeled',)"]
    if unlabeled:
        names = f"('digits_{split}_unlabeled', 'digits_unlabeled')"
        found += ["DATASETS.TRAIN_UNLABELED", names]
    return found


def digits_files(name: str) -> list[Path]:
    """The files that identify the dataset and one of its splits."""
    return [digits_root() / "spec.json", split_file(name)]


def split_file(name: str) -> Path:
    return digits_root() / "splits" / f"{name}.json"


def _register() -> None:
    """What has been generated; with ground truth the unlabeled images are ``unlabeled_gt``."""
    root = digits_root()
    if is_generated(root):
        register_digits(root)
        register_manifests("digits", "digits_train", root / "splits")


def _hint(name: str) -> str:
    root, run = digits_root(), ": run 'soft-teacher-demo' once"
    if root.is_dir() and not is_generated(root):
        return f"{run}, what is in {root} is incomplete or of an older version, without masks"
    return f"{run}, it writes it to {root}"


add_builtin("digits_", _register, _hint)
