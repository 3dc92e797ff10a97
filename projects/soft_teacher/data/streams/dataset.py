"""An endless stream of samples in which every position is reproducible on its own."""

import hashlib
import os
import random
from array import array
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from itertools import islice

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from ..images.image import UnreadableImage
from ..masks import SEGMENTATION
from ..unlabeled_annotations import GIVEN_ANNOTATIONS, SCORE
from .order import StreamOrder
from .seeds import SAMPLE, sample_seed

__all__ = ["StreamDataset", "dicts_digest", "seeded"]

# Images that are tried for one position.
TRIES = 20


@contextmanager
def seeded(seed: int):
    """Seeds ``random`` and ``np.random`` inside, and restores their state afterwards."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class StreamDataset(Dataset):
    """Maps a position of the stream to a sample.

    The image and its augmentation depend on (seed, stream, position) alone, whatever the number
    of workers and wherever a run was interrupted; so does the image that replaces an unreadable
    one.
    """

    def __init__(self, dataset_dicts: list[dict], mapper: Callable, order: StreamOrder):
        """
        Args:
            dataset_dicts: in Detectron2's format, at least one.
            mapper: dataset dict -> sample dict; raises UnreadableImage.
            order: of these images.
        """
        self.digest = dicts_digest(dataset_dicts)
        # One buffer of bytes: workers that read Python objects would copy their pages.
        self.dicts = DatasetFromList(dataset_dicts, serialize=True)
        self.mapper = mapper
        self.order = order

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, position: int) -> dict:
        """The mapper's sample at a position.

        Returns:
            the sample with ``seed``, a number that is this position's own, and ``unreadable``, a
            message for each image that was tried before. If there is no readable one, that alone.
        """
        seed = sample_seed(self.order.seed, SAMPLE, self.order.stream, position)
        unreadable = []
        for index in self._candidates(position):
            try:
                with seeded(seed):
                    sample = self.mapper(self.dicts[index])
            except UnreadableImage as error:
                unreadable.append(str(error))
            else:
                return {**sample, "seed": seed, "unreadable": unreadable}
        return {"unreadable": unreadable}

    def _candidates(self, position: int):
        yield self.order.index(position)
        yield from islice(self.order.substitutes(position), TRIES)


def dicts_digest(dataset_dicts: list[dict]) -> str:
    """A checksum of the images' names, whatever their folder, and of boxes and masks to learn."""
    digest = hashlib.sha256()
    for record in dataset_dicts:
        annotations = (*record.get("annotations", ()), *record.get(GIVEN_ANNOTATIONS, ()))
        boxes = [
            (a.get("bbox"), a["category_id"], *([a[SCORE]] if SCORE in a else []))
            for a in annotations
        ]
        digest.update(repr((os.path.basename(record.get("file_name", "")), boxes)).encode())
        for mask in (a[SEGMENTATION] for a in annotations if SEGMENTATION in a):
            for part in _parts(mask):
                digest.update(part)
    return digest.hexdigest()


def _parts(mask: list | dict) -> Iterable:
    """The bytes of a packed segmentation; the text of COCO's polygons would take ten seconds."""
    if isinstance(mask, dict):
        return [repr(mask).encode()]
    return (array("d", [len(piece), *piece]) for piece in mask)
