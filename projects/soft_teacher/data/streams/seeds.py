"""Random numbers that depend on nothing but what they are for."""

import numpy as np

__all__ = ["ORDER", "SAMPLE", "SCHEDULE", "STEP", "SUBSTITUTE", "sample_seed", "shuffled"]

# The second number of every random key, so that no two uses share their numbers.
SCHEDULE, ORDER, SAMPLE, STEP, SUBSTITUTE = 2, 3, 4, 5, 6


def sample_seed(*key: int) -> int:
    """A 32-bit seed that depends on nothing but ``key`` (non-negative integers)."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def shuffled(size: int, *key: int) -> np.ndarray:
    """A permutation of ``range(size)`` that depends on nothing but ``key``."""
    return np.random.default_rng(key).permutation(size)
