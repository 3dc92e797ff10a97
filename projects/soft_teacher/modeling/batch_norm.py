"""Whose statistics a BatchNorm keeps."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SOURCES", "fixed_statistics"]

# All images of a step in one pass; or the labeled ones alone, with a pass for each stream.
SOURCES = ("all", "labeled")


@contextmanager
def fixed_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm normalizes by the batch as before, but its running statistics stay."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
