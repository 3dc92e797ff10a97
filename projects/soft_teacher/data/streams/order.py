"""Which image is at which position of an endless stream."""

from collections.abc import Iterator

import numpy as np

from .seeds import ORDER, SUBSTITUTE, shuffled

__all__ = ["StreamOrder", "grouped"]


class StreamOrder:
    """Passes over all images, each in a random order that depends on (seed, stream, pass) alone.

    With ``wide`` the images of a block, a run of positions that one rank takes in one step, have
    the same orientation as far as there are enough images, so that a batch needs less padding.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        stream: int,
        wide: np.ndarray | None = None,
        block: int = 1,
    ):
        """
        Args:
            size: number of images, at least one.
            seed: the run's seed.
            stream: LABELED or UNLABELED.
            wide: bool (size,), the images to be kept together, and apart from the others.
            block: images of a stream on a rank at a step.
        """
        self.size = size
        self.seed = seed
        self.stream = stream
        mixed = wide is not None and wide.any() and not wide.all()
        self._wide = wide if mixed else None
        self._block = block
        self._passes: dict[int, np.ndarray] = {}

    def index(self, position: int) -> int:
        """The image at a position, 0 .. size - 1."""
        number, offset = divmod(position, self.size)
        if number not in self._passes:
            # Workers read ahead of each other by less than a pass, unless a pass is tiny.
            near = {n: order for n, order in self._passes.items() if abs(n - number) == 1}
            self._passes = {**near, number: self._pass(number)}
        return int(self._passes[number][offset])

    def substitutes(self, position: int) -> Iterator[int]:
        """All images in an order of the position's own: what to take if its image is unreadable."""
        return map(int, shuffled(self.size, self.seed, SUBSTITUTE, self.stream, position))

    def _pass(self, number: int) -> np.ndarray:
        order = shuffled(self.size, self.seed, ORDER, self.stream, number)
        if self._wide is None:
            return order
        return grouped(order, self._wide, self._block, first=number * self.size)


def grouped(order: np.ndarray, wide: np.ndarray, block: int, *, first: int = 0) -> np.ndarray:
    """Reorders so that the blocks between multiples of ``block`` are all wide or all not.

    Args:
        order: (N,) image numbers.
        wide: bool (N,), by image number.
        block: length of a block of positions.
        first: position of ``order[0]``. Blocks lie between multiples of ``block``, so the first
            and the last one may be shared with the neighbouring passes.

    Returns:
        a permutation of ``order``. Blocks keep the order in which a pass over ``order`` fills
        them; the images left over, fewer than three blocks, are at the ends.
    """
    head = -first % block
    blocks = [
        part
        for group in (order[wide[order]], order[~wide[order]])
        for part in np.split(group[: len(group) // block * block], len(group) // block or 1)
        if len(part)
    ]
    place = np.argsort(order)  # of each image in the order, as order is a permutation
    blocks.sort(key=lambda part: place[part[-1]])
    whole = max(0, len(order) - head) // block
    blocks = blocks[:whole]
    inside = np.concatenate(blocks) if blocks else order[:0]
    rest = order[~np.isin(order, inside)]
    return np.concatenate([rest[:head], inside, rest[head:]])
