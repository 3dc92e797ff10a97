"""Whether random numbers are distributed as they should be."""

import numpy as np


def assert_share(hits, chance, count):
    """A binomial count within four standard deviations."""
    assert abs(hits - chance * count) <= 4 * np.sqrt(count * chance * (1 - chance))


def assert_uniform(values, low, high):
    """Inside [low, high], both ends reached, and by Kolmogorov and Smirnov (chance 0.001)."""
    values = np.sort((np.asarray(values, dtype=float) - low) / (high - low))
    count = len(values)
    assert count > 100 and 0 <= values[0] < 10 / count and 1 - 10 / count < values[-1] <= 1
    steps = np.arange(count + 1) / count
    assert max((steps[1:] - values).max(), (values - steps[:-1]).max()) < 1.95 / np.sqrt(count)
