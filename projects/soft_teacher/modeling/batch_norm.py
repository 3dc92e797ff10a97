"""Whose statistics a BatchNorm keeps."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SOURCES", "fixed_statistics"]

# All images of a step in one pass; or the labeled ones alone, with a pass for each stream.
SOURCES = ("all", "labeled")

# torch's layers update nothing and count no batch; NaiveSyncBatchNorm heeds the momentum alone.
FIXED = {"track_running_stats": False, "momentum": 0.0}


@contextmanager
def fixed_statistics(network: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm normalizes by the batch as before, but its running statistics stay."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    before = [{name: getattr(norm, name) for name in FIXED} for norm in norms]
    for norm in norms:
        vars(norm).update(FIXED)
    try:
        yield
    finally:
        for norm, settings in zip(norms, before):
            vars(norm).update(settings)
