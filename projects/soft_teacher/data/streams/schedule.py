"""Which images each rank trains on at each step, as a pure function of the seed."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from ...utils.checks import check_choice, check_not_negative
from ...utils.errors import ConfigError
from .seeds import SCHEDULE

__all__ = [
    "BatchSchedule",
    "StreamBatchSampler",
    "absent_streams",
    "check_schedule",
    "labeled_share",
]

DRAWS = ("global", "per_rank")
# Numbers of images are kept for every step and rank; more than this would fill the memory.
MOST_BATCHES = 10**9


def labeled_share(step, *, share: float, decay_steps: int, max_iter: int):
    """s_r(t): ``share``, falling linearly to 0 over the last ``decay_steps`` (section 4.2).

    Args:
        step: step or array of steps, 0 .. max_iter - 1.
    """
    left = (max_iter - np.asarray(step)) / max(decay_steps, 1)
    return share * np.minimum(left, 1) if decay_steps else np.full(np.shape(step), share)


def check_schedule(
    *,
    batch_size: int,
    share: float,
    decay_steps: int = 0,
    max_iter: int,
    burn_in: int = 0,
    draw: str = "global",
    world_size: int,
) -> None:
    """Checks the settings of a :class:`BatchSchedule`, which has the same arguments.

    Raises:
        ConfigError: for impossible settings, naming the key.
    """
    check_choice("BatchSchedule.draw", draw, DRAWS)
    check_not_negative("BatchSchedule.decay_steps", decay_steps)
    check_not_negative("BatchSchedule.burn_in", burn_in)
    if not 0 < share <= 1:
        raise ConfigError(f"BatchSchedule.share must lie in (0, 1], got {share}")
    if share == 1 and decay_steps:
        raise ConfigError(
            "BatchSchedule.decay_steps must be 0 where BatchSchedule.share is 1:"
            " there are no unlabeled images to take over"
        )
    if batch_size % world_size or batch_size < world_size:
        raise ConfigError(
            f"BatchSchedule.batch_size ({batch_size}) must be a multiple of the number of "
            f"processes times TwoStreamLoader.chunks ({world_size})"
        )
    for key, steps in (("decay_steps", decay_steps), ("burn_in", burn_in)):
        if steps > max_iter:
            raise ConfigError(
                f"BatchSchedule.{key} ({steps}) must not exceed BatchSchedule.max_iter ({max_iter})"
            )
    if max_iter * world_size > MOST_BATCHES:
        raise ConfigError(
            f"BatchSchedule.max_iter ({max_iter}) steps of {world_size} batches are too many to "
            f"plan: at most {MOST_BATCHES:,} batches"
        )
    if draw == "per_rank" and share < 1 and batch_size < 2 * world_size:
        raise ConfigError(
            "BatchSchedule.draw 'per_rank' needs two images per process: raise "
            "BatchSchedule.batch_size or use 'global'"
        )


def absent_streams(*, batch_size: int, share: float, max_iter: int) -> list[str]:
    """A line for each stream that many steps have no image of, before the share decays.

    Args:
        batch_size, share, max_iter: see :class:`BatchSchedule`, for "global" sampling.

    Raises:
        ConfigError: there is no step with labeled images to be expected.
    """
    if batch_size * share * max_iter < 1:
        raise ConfigError(
            f"BatchSchedule.share ({share:g}) of BatchSchedule.batch_size ({batch_size}) images "
            f"is less than one labeled image in BatchSchedule.max_iter ({max_iter}) steps: raise it"
        )
    parts = {"labeled": batch_size * share, "unlabeled": batch_size * (1 - share)}
    return [
        f"BatchSchedule.share ({share:g}) leaves {part:.2g} {stream} images of "
        f"BatchSchedule.batch_size ({batch_size}) on average: {1 - part:.0%} of the steps have none"
        for stream, part in parts.items()
        if 0 < part < 1 - 1e-9  # what rounding leaves of 1
    ]


class BatchSchedule:
    """Number of labeled and unlabeled images of every rank at every step.

    Images of a stream are numbered through all steps and ranks; a rank's images of a step are a
    run of these positions, so that the global batch does not depend on the number of ranks.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        share: float,
        decay_steps: int,
        max_iter: int,
        burn_in: int,
        draw: str,
        world_size: int,
        seed: int,
    ):
        """
        Args:
            batch_size: images per step over all ranks, both streams together.
            share, decay_steps: see :func:`labeled_share`.
            max_iter: steps of the whole run.
            burn_in: first steps without unlabeled images.
            draw: "global": one stochastic rounding of batch_size * s_r(t) per step, divided evenly
                among the ranks; "per_rank": each rank samples from a binomial, at least one image
                of each stream (released code, which has no decay).
            world_size: number of ranks; each micro-batch counts as one.
            seed: the run's seed, the same on all ranks.

        Raises:
            ConfigError: for impossible settings, naming the key.
        """
        check_schedule(
            batch_size=batch_size,
            share=share,
            decay_steps=decay_steps,
            max_iter=max_iter,
            burn_in=burn_in,
            draw=draw,
            world_size=world_size,
        )
        self.per_rank = batch_size // world_size
        self.max_iter = max_iter
        self.world_size = world_size
        rng = np.random.default_rng((seed, SCHEDULE))
        shares = labeled_share(
            np.arange(max_iter), share=share, decay_steps=decay_steps, max_iter=max_iter
        )
        if draw == "per_rank" and share < 1:
            labeled = rng.binomial(self.per_rank, shares[:, None], (max_iter, world_size))
            labeled = labeled.clip(1, self.per_rank - 1).astype(np.int32)
        else:
            total = np.floor(batch_size * shares + rng.random(max_iter)).clip(0, batch_size)
            labeled = _dealt(total.astype(np.int32), world_size)
        unlabeled = self.per_rank - labeled
        unlabeled[:burn_in] = 0
        self._counts = np.stack([labeled, unlabeled])
        self._totals = self._counts.sum(axis=2)
        self._first = np.cumsum(self._totals, axis=1) - self._totals

    def count(self, stream: int, step: int, rank: int) -> int:
        """Images of a stream (LABELED or UNLABELED) on a rank at a step."""
        return int(self._counts[stream, step, rank])

    def total(self, stream: int, step: int) -> int:
        """Images of a stream at a step over all ranks: N_l or N_u of Eq. 2, 3."""
        return int(self._totals[stream, step])

    def passes(self, *, apart: bool) -> dict[str, list[int]]:
        """Images of each step over all ranks: of both streams as "", ``apart`` also of each."""
        streams = dict(zip(("labeled", "unlabeled"), self._totals.tolist())) if apart else {}
        return {"": self._totals.sum(axis=0).tolist(), **streams}

    def usual_count(self, stream: int) -> int:
        """Images of a stream that a rank mostly gets where it gets any, at least 1."""
        counts = self._counts[stream]
        return int(np.median(counts[counts > 0])) if counts.any() else 1

    def positions(self, stream: int, step: int, rank: int) -> list[int]:
        """The numbers of the images of a stream on a rank at a step."""
        first = int(self._first[stream, step] + self._counts[stream, step, :rank].sum())
        return list(range(first, first + self.count(stream, step, rank)))


class StreamBatchSampler(Sampler):
    """The positions of one stream on some ranks, a list per rank and step."""

    def __init__(self, schedule: BatchSchedule, stream: int, ranks: Sequence[int]):
        """
        Args:
            schedule: of all ranks.
            stream: LABELED or UNLABELED.
            ranks: those whose images one process loads, one after the other at each step.
        """
        self.schedule = schedule
        self.stream = stream
        self.ranks = ranks
        self.start_step = 0

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.schedule.max_iter):
            for rank in self.ranks:
                yield self.schedule.positions(self.stream, step, rank)

    def __len__(self) -> int:
        return (self.schedule.max_iter - self.start_step) * len(self.ranks)


def _dealt(totals: np.ndarray, world_size: int) -> np.ndarray:
    """(steps, ranks): each total split evenly, the odd images going to another rank each step."""
    steps = np.arange(len(totals), dtype=np.int32)
    turn = (np.arange(world_size, dtype=np.int32) + steps[:, None]) % world_size
    return totals[:, None] // world_size + (turn < totals[:, None] % world_size)
