"""Semantic maps of labeled images: read from files or painted from masks, and seen in a view.

A map is (H, W) uint8, the class of every pixel of the upright image, and 255 where that is not
known.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from ..utils.errors import ConfigError, one_line
from .datasets.builtin import dataset_root
from .images.header import UnreadableImage
from .masks import SEGMENTATION, bitmap, image_size

__all__ = [
    "IGNORED",
    "SEMANTIC_FILE",
    "SEMANTIC_MAP",
    "InstanceMaps",
    "MapFiles",
    "SemanticMaps",
    "in_view",
]

IGNORED = 255
# Detectron2's keys of a dataset dict and of a sample.
SEMANTIC_FILE, SEMANTIC_MAP = "sem_seg_file_name", "sem_seg"
# Maps of a dataset that are read before a run begins.
PROBED = 8
# Modes of images whose pixels are numbers of classes; Pillow does not look up a palette's colors.
NUMBERS = ("L", "P")
SWITCHED_OFF = "set TwoStreamLoader.semantic_maps and HTCROIHeads.semantic_head to None"
WHERE_TO_GET = (
    "unpack stuffthingmaps_trainval2017.zip of COCO-stuff (github.com/nightrome/cocostuff) in "
    "coco/stuffthingmaps of $DETECTRON2_DATASETS"
)


class SemanticMaps(ABC):
    """Where the semantic maps of labeled images come from.

    Attributes:
        num_classes: of the maps; others than these and 255 are refused.
    """

    def __init__(self, *, num_classes: int):
        if not 0 < num_classes <= IGNORED:
            raise ConfigError(
                f"SemanticMaps.num_classes must lie in [1, {IGNORED}], got {num_classes}"
            )
        self.num_classes = num_classes

    @abstractmethod
    def located(self, datasets: Sequence[list[dict]]) -> list[list[dict]]:
        """The images of each labeled dataset, with what :meth:`read` needs.

        Raises:
            ConfigError: a map is missing or of another form.
        """

    @abstractmethod
    def read(self, record: dict, size: tuple[int, int]) -> np.ndarray | None:
        """The map of an image; None if it has none.

        Args:
            record: of :meth:`located`.
            size: (H, W) of the image.

        Raises:
            UnreadableImage: its file cannot be read, is of another size or has other classes.
        """


class MapFiles(SemanticMaps):
    """PNG files of one channel, whose pixels are classes, as COCO-stuff's ``stuffthingmaps``.

    There, 0 to 90 are COCO's categories less 1, 91 to 181 stuff, and 255 is unlabeled: 182 classes,
    of which published detectors have 183.
    """

    def __init__(self, *, folders: str | Sequence[str | None] | None, num_classes: int):
        """
        Args:
            folders: of the maps, named as the images, for all labeled datasets or for each. A
                relative one is in $DETECTRON2_DATASETS. Without a folder (None) images have what
                their dicts name as ``sem_seg_file_name``, or no map.
            num_classes: see :class:`SemanticMaps`.
        """
        super().__init__(num_classes=num_classes)
        single = folders is None or isinstance(folders, str)
        self.folders = folders if single else list(folders)

    def located(self, datasets: Sequence[list[dict]]) -> list[list[dict]]:
        found = [_named(*x) for x in zip(datasets, self._folders(len(datasets)))]
        with_maps = [[d for d in dicts if SEMANTIC_FILE in d] for dicts in found]
        if not any(with_maps):
            raise ConfigError(
                f"no labeled image has a semantic map: set MapFiles.folders, or {SWITCHED_OFF}"
            )
        for records in with_maps:
            _check_files([d[SEMANTIC_FILE] for d in records])
            for record in islice(records, PROBED):
                self._probe(record)
        return found

    def read(self, record: dict, size: tuple[int, int] | None) -> np.ndarray | None:
        """See the base class; any ``size`` is right if it is None."""
        file = record.get(SEMANTIC_FILE)
        if file is None:
            return None
        try:
            with Image.open(file) as image:
                mode, labels = image.mode, np.array(image)
        except Exception as error:  # decoders raise many kinds
            raise UnreadableImage(f"semantic map {file}: {one_line(error)}") from error
        if mode not in NUMBERS:
            raise UnreadableImage(f"semantic map {file}: its pixels are {mode}, not 8-bit classes")
        if size is not None and labels.shape != tuple(size):
            raise UnreadableImage(
                f"semantic map {file}: it has {_shown(labels.shape)} pixels, its image "
                f"{_shown(size)}"
            )
        known = labels[labels != IGNORED]
        if known.size and known.max() >= self.num_classes:
            raise UnreadableImage(
                f"semantic map {file}: class {known.max()} is not below "
                f"SemanticMaps.num_classes ({self.num_classes})"
            )
        return labels

    def _folders(self, count: int) -> list[str | None]:
        folders = self.folders
        if folders is None or isinstance(folders, str):
            folders = [folders] * count
        if len(folders) != count:
            raise ConfigError(
                f"MapFiles.folders must be one folder, or one for each of the {count} labeled "
                f"datasets, got {len(folders)}"
            )
        return [folder and str(dataset_root() / Path(folder).expanduser()) for folder in folders]

    def _probe(self, record: dict) -> None:
        try:
            self.read(record, image_size(record))
        except UnreadableImage as error:
            raise ConfigError(f"{error}: correct it, or {SWITCHED_OFF}") from error


class InstanceMaps(SemanticMaps):
    """Painted from masks: the classes of objects, and the last class for everything else.

    They say no more than the masks do, but train a semantic branch where there are no files.
    """

    def __init__(self, *, num_classes: int):
        """
        Args:
            num_classes: those of the objects, and one.
        """
        super().__init__(num_classes=num_classes)

    def located(self, datasets: Sequence[list[dict]]) -> list[list[dict]]:
        ids = (a["category_id"] for dicts in datasets for d in dicts for a in _annotations(d))
        if (largest := max(ids, default=0)) >= self.num_classes - 1:
            raise ConfigError(
                f"SemanticMaps.num_classes must be {largest + 2} at least, one more than there are "
                f"classes of objects, got {self.num_classes}"
            )
        return list(datasets)

    def read(self, record: dict, size: tuple[int, int]) -> np.ndarray:
        """See the base class; the boxes of crowds are ignored."""
        labels = np.full(size, self.num_classes - 1, np.uint8)
        for annotation in _annotations(record):
            if annotation.get("iscrowd", 0):
                box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
                x0, y0, x1, y1 = np.maximum(np.round(box), 0).astype(int)
                labels[y0:y1, x0:x1] = IGNORED
            else:
                labels[bitmap(annotation[SEGMENTATION], size)] = annotation["category_id"]
        return labels


def in_view(labels: np.ndarray, transforms: T.TransformList) -> torch.Tensor:
    """A map in a view of its image, sampled to the nearest pixel; what enters it is 255.

    Every transform fills segmentations with 0, as masks need it. So a map is transformed as
    255 - class, in which 0 means ignored.

    Args:
        labels: (H, W) uint8.
        transforms: image to view.

    Returns:
        (h, w) uint8.
    """
    moved = transforms.apply_segmentation(IGNORED - labels)
    return torch.from_numpy(np.ascontiguousarray(IGNORED - moved))


def _named(dicts: list[dict], folder: str | None) -> list[dict]:
    """Images with the files of their maps in a folder."""
    if not folder:
        return dicts
    if not os.path.isdir(folder):
        raise ConfigError(
            f"MapFiles.folders names {folder}, which is no folder: {WHERE_TO_GET}, or "
            f"{SWITCHED_OFF}"
        )
    return [
        {**d, SEMANTIC_FILE: os.path.join(folder, f"{Path(d['file_name']).stem}.png")}
        for d in dicts
    ]


def _check_files(files: Sequence[str]) -> None:
    """Raises ConfigError unless all are there; a folder is listed once."""
    present = {folder: set(_listed(folder)) for folder in {os.path.dirname(f) for f in files}}
    missing = [f for f in files if os.path.basename(f) not in present[os.path.dirname(f)]]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(files)} semantic maps are missing, first {missing[0]}: "
            f"{WHERE_TO_GET}, or {SWITCHED_OFF}"
        )


def _listed(folder: str) -> list[str]:
    return os.listdir(folder or ".") if os.path.isdir(folder or ".") else []


def _annotations(record: dict) -> Sequence[dict]:
    return record.get("annotations") or ()


def _shown(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
