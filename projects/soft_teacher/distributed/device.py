"""The device of a run, and its share of the CPU."""

import logging
import os

import torch

from ..utils.errors import ConfigError

__all__ = ["bound_compiled_shapes", "cores", "share_cpu", "usable_device"]

# oneDNN keeps what it compiled for the last 1024 shapes: with a number of masks of its own at every
# step, over a GB of the smallest detector. It reads this at its first use.
PRIMITIVES = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256"


def usable_device(key: str, device: str) -> str:
    """``device``, or "cpu" if it is a GPU and there is none; ConfigError if it is not a device."""
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"{key} '{device}' is not a device: use 'cuda' or 'cpu'") from error
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        logging.getLogger(__name__).warning(f"No GPU found: running on the CPU, not on '{device}'")
        return "cpu"
    return device


def share_cpu(processes: int) -> None:
    """Divides the cores among a run's processes on this machine, unless OMP_NUM_THREADS is set.

    Processes that each use all cores slow each other down by an order of magnitude. torchrun
    sets OMP_NUM_THREADS to 1 for several processes where it is not set.
    """
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // max(1, processes)))


def bound_compiled_shapes() -> None:
    """Bounds what oneDNN keeps on the CPU, unless the environment does. Before any network runs."""
    os.environ.setdefault(*PRIMITIVES)


def cores() -> int:
    """Cores that this process may use, which in a cluster job can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
