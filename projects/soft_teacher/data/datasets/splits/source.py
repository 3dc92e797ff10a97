"""What splits are made from: a COCO JSON, or any dataset as one."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ....utils.errors import ConfigError
from ...values import has_only
from ..coco_ground_truth import as_coco
from ..dataset_dicts import dataset_reading
from ..role_checks import check_labels, label_warnings
from .families import SHOTS, coco_errors, coco_ids
from .shots import Shown, shown_in

__all__ = ["Source", "dataset_source", "json_source"]


@dataclass(frozen=True)
class Source:
    """A dataset to split.

    Attributes:
        name: recorded in the splits.
        coco: its COCO JSON.
        folder: of its images.
        ids: family -> image ids in the order that it samples from.
        notes: messages for the user, a line each.
    """

    name: str
    coco: dict = field(repr=False)
    folder: str
    ids: Mapping[str, list[int]] = field(repr=False)
    notes: Sequence[str] = ()

    @cached_property
    def shown(self) -> Shown:
        """Which classes its images show. Raises ConfigError if the JSON is faulty."""
        return shown_in(self.coco, self.name)

    def pool(self, family: str) -> list[int] | Shown:
        """What a family samples from."""
        return self.shown if family == SHOTS else self.ids[family]


def json_source(json_file: Path | str, folder: Path | str) -> Source:
    """A COCO JSON as it is.

    Args:
        json_file: with whole numbers as image ids.
        folder: of its images, which are not looked for.

    Raises:
        ConfigError: the file is missing or is no COCO JSON.
    """
    with coco_errors(json_file), PathManager.open(str(json_file)) as file:
        coco = json.load(file)
        ids = coco_ids(coco)
    return Source(os.path.basename(json_file), coco, str(folder), ids)


def dataset_source(key: str, name: str) -> Source:
    """Any dataset with labels, as its reader gives it.

    Images whose ids are no numbers are numbered from 1 in the order of their ids. File names are
    relative to the folder that all images are in or below.

    Args:
        key: option that names the dataset, for the messages.
        name: a registered dataset, or a path (:mod:`..paths`).

    Raises:
        ConfigError: the dataset cannot be read or learned from.
    """
    reading = dataset_reading(key, name)
    where = f"{key} '{name}'"
    check_labels(where, reading)
    if not reading.balance.learned:
        raise ConfigError(
            f"{where}: no image has an annotation; name a dataset with labels, such as "
            "FILE.json@FOLDER"
        )
    coco = _numbered(as_coco(reading))
    folder = _to_common_folder(coco["images"])
    notes = [*(f"{where}: {note}" for note in reading.notes), *label_warnings(where, reading)]
    # Without its folders, so that the same files have the same checksum everywhere.
    title = "@".join(os.path.basename(part.rstrip(os.sep)) for part in name.split("@"))
    return Source(title, coco, folder, coco_ids(coco), notes)


def _numbered(coco: dict) -> dict:
    ids = [image["id"] for image in coco["images"]]
    if has_only(ids, int):
        return coco
    # An id that occurs twice keeps one number, and is refused with the same line as elsewhere.
    numbers = {image_id: number for number, image_id in enumerate(dict.fromkeys(ids), 1)}
    images = [{**image, "id": numbers[image["id"]]} for image in coco["images"]]
    annotations = [{**a, "image_id": numbers[a["image_id"]]} for a in coco["annotations"]]
    return {**coco, "images": images, "annotations": annotations}


def _to_common_folder(images: Sequence[dict]) -> str:
    """Makes the file names relative to the folder that is returned."""
    files = [os.path.abspath(image["file_name"]) for image in images]
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    for image, file in zip(images, files):
        image["file_name"] = os.path.relpath(file, folder)
    return folder
