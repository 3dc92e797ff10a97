"""The two parts of a split as COCO JSONs, for datasets without a registered name."""

import json
from pathlib import Path

from ....utils.atomic import atomic_write
from ....utils.errors import ConfigError, one_line
from .manifest import Split
from .registration import PARTS

__all__ = ["write_parts"]


def write_parts(json_file: Path, split: Split, folder: Path) -> list[Path]:
    """Write ``labeled.json`` and ``unlabeled.json``, each all or nothing.

    Both keep the annotations of their images, which training never reads from an unlabeled one.

    Args:
        json_file: COCO annotations that the split was made from.
        folder: of the new files; made if it is missing.

    Returns:
        the labeled and the unlabeled file.

    Raises:
        ConfigError: the JSON cannot be read.
        OSError: a file cannot be written.
    """
    try:
        coco = json.loads(json_file.read_bytes())
        images, annotations = coco["images"], coco.get("annotations", [])
        parts = [_part(images, annotations, set(getattr(split, part))) for part in PARTS]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{json_file} cannot be read as COCO JSON: {one_line(error)}") from error
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
