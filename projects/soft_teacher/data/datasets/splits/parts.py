"""The two parts of a split as COCO JSONs, for datasets without a registered name."""

import json
from pathlib import Path

from ....utils.atomic import atomic_write
from .families import coco_errors
from .manifest import Split
from .registration import PARTS
from .source import Source

__all__ = ["write_parts"]


def write_parts(source: Source, split: Split, folder: Path) -> list[Path]:
    """Write ``labeled.json`` and ``unlabeled.json``, each all or nothing.

    Both keep the annotations of their images, which training never reads from an unlabeled one.

    Args:
        source: what the split was made from.
        folder: of the new files; made if it is missing.

    Returns:
        the labeled and the unlabeled file.

    Raises:
        ConfigError: the source is no COCO JSON.
        OSError: a file cannot be written.
    """
    coco = source.coco
    with coco_errors(source.name):
        images, annotations = coco["images"], coco.get("annotations", [])
        parts = [_part(images, annotations, set(getattr(split, part))) for part in PARTS]
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{part}.json" for part in PARTS]
    for path, part in zip(paths, parts):
        with atomic_write(str(path)) as file:
            json.dump({**coco, **part}, file)
    return paths


def _part(images: list[dict], annotations: list[dict], ids: set[int]) -> dict:
    return {
        "images": [image for image in images if image["id"] in ids],
        "annotations": [a for a in annotations if a["image_id"] in ids],
    }
