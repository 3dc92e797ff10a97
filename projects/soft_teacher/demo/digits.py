"""An embedded detection dataset with real pixels and no download.

Handwritten digits (scikit-learn) on photographs (scikit-image) as image files and COCO JSON, with
boxes and instance masks (compressed RLE)::

    python -m soft_teacher.demo datasets/digits

writes ``<root>/{train,unlabeled,val}/*.jpg``, ``<root>/annotations/*.json`` and ``spec.json``,
which is written last and says that the rest is complete. No digit sample and no region of a
photograph is shared between ``val`` and the other splits; each image and annotation record says
where its pixels come from.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from iopath.common.file_io import file_lock
from PIL import Image

from ..data.masks import encoded
from ..utils.atomic import atomic_write
from ..utils.command_line import exit_status
from ..utils.errors import ConfigError
from .scene import SPLITS, Scene, render_scene
from .spec import DigitsSpec

__all__ = ["DigitsSpec", "generate", "is_generated", "register_digits"]

# Increase it when the same spec gives different bytes. 2: with masks.
FORMAT = 2
# Ids are unique across splits, so that labeled and unlabeled images may be mixed.
IDS_PER_SPLIT = 1_000_000
FOLDERS = (*SPLITS, "annotations")
DATASETS = ("train", "unlabeled", "unlabeled_gt", "val")
SPEC_FILE = "spec.json"
PARTIAL = ".partial"
JPEG = dict(format="JPEG", quality=95, subsampling=0)


def generate(
    root: Path | str,
    spec: DigitsSpec = DigitsSpec(),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Writes the dataset, or reuses it if the folder already holds this spec intact.

    Safe to call from several processes: one generates, the others wait and reuse.

    Args:
        root: folder of this dataset, created if missing. Another spec in it is replaced.
        spec: what to generate.
        progress: called with (images done, images in all) after each image.

    Returns:
        dataset ("train", "unlabeled", "unlabeled_gt", "val") -> its COCO JSON.

    Raises:
        ConfigError: the folder holds files of something else.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with file_lock(str(root / SPEC_FILE)):
        if not _is_intact(root, spec):
            _check_ownership(root)
            _replace(root, spec, progress)
    return _json_files(root)


def register_digits(root: Path | str, prefix: str = "digits") -> list[str]:
    """Registers a generated dataset with Detectron2, as often as you like.

    Args:
        root: what ``generate`` was given.
        prefix: the names are ``<prefix>_train``, ``_unlabeled``, ``_unlabeled_gt`` and ``_val``.

    Returns:
        the four names.

    Raises:
        ConfigError: there is no complete dataset, or a name is registered for another folder.
    """
    root = Path(root)
    if not is_generated(root):
        raise ConfigError(
            f"no complete digits dataset with masks in {root}: run python -m soft_teacher.demo "
            f"{root}"
        )
    classes = list(DigitsSpec(**_read_record(root)["spec"]).class_names)
    for dataset, json_file in _json_files(root).items():
        folder = root / dataset.removesuffix("_gt")
        _register(f"{prefix}_{dataset}", str(json_file), str(folder), classes)
    return [f"{prefix}_{dataset}" for dataset in DATASETS]


def is_generated(root: Path) -> bool:
    """Whether a folder holds a complete dataset, and not one of an older version."""
    wanted = {"complete": True, "format": FORMAT}
    return (root / SPEC_FILE).is_file() and wanted.items() <= _read_record(root).items()


def _register(name: str, json_file: str, image_root: str, classes: list[str]):
    if name in DatasetCatalog.list():
        held = MetadataCatalog.get(name).get("json_file")
        if held is None or os.path.abspath(held) != os.path.abspath(json_file):
            raise ConfigError(f"dataset '{name}' is registered for {held}: use another prefix")
        # Register anew: the folder may have been regenerated with other classes.
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_coco_instances(name, {"thing_classes": classes}, json_file, image_root)


def _json_files(root: Path) -> dict[str, Path]:
    return {dataset: root / "annotations" / f"{dataset}.json" for dataset in DATASETS}


def _replace(root: Path, spec: DigitsSpec, progress):
    """Generates beside the old files, then swaps folders; incomplete until the last write."""
    partial = root / PARTIAL
    _write_record(root, {"complete": False, "format": FORMAT, "spec": spec.to_dict()})
    shutil.rmtree(partial, ignore_errors=True)
    _write_dataset(partial, spec, progress)
    for folder in FOLDERS:
        shutil.rmtree(root / folder, ignore_errors=True)
        os.replace(partial / folder, root / folder)
    partial.rmdir()
    record = {"format": FORMAT, "spec": spec.to_dict(), "sha256": _checksum(root)}
    _write_record(root, {"complete": True, **record})


def _check_ownership(root: Path):
    """Only folders that ``spec.json`` claims as generated may be deleted."""
    strange = [folder for folder in FOLDERS if (root / folder).exists()]
    if strange and not _read_record(root):
        raise ConfigError(f"{root} holds '{strange[0]}' of something else: use an empty folder")


def _is_intact(root: Path, spec: DigitsSpec) -> bool:
    record = _read_record(root)
    wanted = {"complete": True, "format": FORMAT, "spec": spec.to_dict()}
    return wanted.items() <= record.items() and record.get("sha256") == _checksum(root)


def _read_record(root: Path) -> dict:
    try:
        record = json.loads((root / SPEC_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and "spec" in record else {}


def _write_record(root: Path, record: dict):
    with atomic_write(str(root / SPEC_FILE)) as file:
        file.write(json.dumps(record, indent=1) + "\n")


def _checksum(root: Path) -> str:
    """SHA-256 over the names and the bytes of all generated files."""
    digest = hashlib.sha256()
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*")):
            digest.update(f"{folder}/{path.name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _write_dataset(root: Path, spec: DigitsSpec, progress):
    counts = (spec.num_train, spec.num_unlabeled, spec.num_val)
    (root / "annotations").mkdir(parents=True)
    for number, (split, count) in enumerate(zip(SPLITS, counts)):
        (root / split).mkdir()
        images, annotations = [], []
        for index in range(count):
            scene = render_scene(spec, split, index)
            image = _image_record(scene, number * IDS_PER_SPLIT + index + 1, index)
            Image.fromarray(scene.image).save(root / split / image["file_name"], **JPEG)
            images.append(image)
            annotations += _annotation_records(scene, image["id"])
            if progress is not None:
                progress(sum(counts[:number]) + index + 1, sum(counts))
        _write_coco(root / "annotations", split, spec, images, annotations)


def _image_record(scene: Scene, image_id: int, index: int) -> dict:
    height, width = scene.image.shape[:2]
    size = {"file_name": f"{index + 1:06d}.jpg", "height": height, "width": width}
    return {"id": image_id, **size, **scene.photo, "distractors": scene.distractors}


def _annotation_records(scene: Scene, image_id: int) -> list[dict]:
    """COCO annotations with x, y, w, h in absolute pixels; ``digit`` is the sample's id.

    The area is the box's, so that sizes are those of boxes for every detector.
    """
    return [
        {
            "id": image_id * 100 + number,
            "image_id": image_id,
            "category_id": digit.label + 1,
            "bbox": [float(v) for v in digit.box],
            "area": float(digit.box[2] * digit.box[3]),
            "segmentation": encoded(digit.mask),
            "iscrowd": 0,
            "digit": digit.sample,
        }
        for number, digit in enumerate(scene.digits, 1)
    ]


def _write_coco(folder: Path, split: str, spec: DigitsSpec, images: list, annotations: list):
    """One JSON, or two for unlabeled images: the one that training reads has no ground truth."""
    for name in (split, f"{split}_gt") if split == "unlabeled" else (split,):
        coco = {
            "info": {"description": f"digits {split}", "spec": spec.to_dict()},
            "images": images,
            "annotations": [] if name == "unlabeled" else annotations,
            "categories": [
                {"id": i, "name": c, "supercategory": "digit"}
                for i, c in enumerate(spec.class_names, 1)
            ],
        }
        (folder / f"{name}.json").write_text(json.dumps(coco, separators=(",", ":")))


@exit_status
def main(argv: list[str] | None = None) -> None:
    """Generates a dataset from the command line; every field of DigitsSpec is an option."""
    parser = argparse.ArgumentParser(description="Generate the embedded digits dataset.")
    parser.add_argument("root", type=Path)
    for field in fields(DigitsSpec):
        pair = isinstance(field.default, tuple)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=int if pair else type(field.default),
            nargs=2 if pair else None,
            default=field.default,
        )
    options = vars(parser.parse_args(argv))
    for dataset, path in generate(options.pop("root"), DigitsSpec(**options)).items():
        print(f"{dataset}: {path}")
