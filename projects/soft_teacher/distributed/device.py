"""Where a training runs."""

import logging
import os

import torch

from ..utils.errors import ConfigError

__all__ = ["cores", "usable_device", "share_cpu"]


def usable_device(key: str, device: str) -> str:
    """``device``, or "cpu" where it is a GPU and there is none.

    Raises:
        ConfigError: if there is no such device.
    """
    try:
        torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"{key} '{device}' is no device: use 'cuda' or 'cpu'") from error
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        logging.getLogger(__name__).warning(f"No GPU found: running on the CPU, not on '{device}'")
        return "cpu"
    return device


def share_cpu(processes: int) -> None:
    """Divides the cores among the processes of this machine, unless OMP_NUM_THREADS says else.

    Processes that each take all cores slow each other down by an order of magnitude. torchrun
    sets OMP_NUM_THREADS to 1 for several processes where it is not set.

    Args:
        processes: of the training on this machine.
    """
    if not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // max(1, processes)))


def cores() -> int:
    """Cores that this process may use, which in a job of a cluster are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
