"""An endless stream of samples in which every position is reproducible on its own."""

import random
from contextlib import contextmanager
from functools import lru_cache
from typing import Callable, List

import numpy as np
from detectron2.data import DatasetFromList
from torch.utils.data import Dataset

from .sampler import ORDER, SAMPLE, sample_seed, shuffled

__all__ = ["StreamDataset", "seeded"]


@contextmanager
def seeded(seed: int):
    """Seeds ``random`` and ``np.random`` inside, and gives them their state back after."""
    states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class StreamDataset(Dataset):
    """Maps a position of the stream to a sample: passes over the images, each in a new order.

    The image and its augmentation depend on (seed, stream, position) alone, whatever the number
    of workers and wherever training was interrupted.
    """

    def __init__(self, dataset_dicts: List[dict], mapper: Callable, *, seed: int, stream: int):
        """
        Args:
            dataset_dicts: in Detectron2's format, at least one.
            mapper: dataset dict -> sample dict.
            seed: the training's seed.
            stream: LABELED or UNLABELED.
        """
        self.dicts = DatasetFromList(dataset_dicts, copy=False)
        self.mapper = mapper
        self.seed = seed
        self.stream = stream

    def __len__(self) -> int:
        return len(self.dicts)

    def __getitem__(self, position: int) -> dict:
        """The mapper's sample, with ``seed``: a number that is this position's own."""
        epoch, offset = divmod(position, len(self.dicts))
        index = _order(len(self.dicts), self.seed, ORDER, self.stream, epoch)[offset]
        seed = sample_seed(self.seed, SAMPLE, self.stream, position)
        with seeded(seed):
            sample = self.mapper(self.dicts[int(index)])
        sample["seed"] = seed
        return sample


@lru_cache(maxsize=4)
def _order(size: int, *key: int) -> np.ndarray:
    return shuffled(size, *key)
