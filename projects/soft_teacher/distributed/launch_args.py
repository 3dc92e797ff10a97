"""Which processes of a run are on which machine, from the command line or from torchrun."""

import os
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from urllib.parse import urlsplit

import torch

from ..utils.errors import ConfigError

__all__ = ["free_address", "is_first_here", "parse_launch_args", "under_torchrun"]

DEFAULTS = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def under_torchrun(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun started this process."""
    return all(name in environ for name in TORCHRUN)


def is_first_here(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process reports for all processes of this machine with its command line."""
    return not under_torchrun(environ) or environ["LOCAL_RANK"] == "0"


def free_address() -> str:
    """An address for rank 0 where all ranks are on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"tcp://127.0.0.1:{found.getsockname()[1]}"


def parse_launch_args(
    parser: ArgumentParser, argv=None, environ: Mapping[str, str] = os.environ
) -> Namespace:
    """Arguments of Detectron2's parser; those about processes are torchrun's where it is used.

    On one machine each run chooses a new address of rank 0 unless one is given.

    Raises ConfigError for flags that contradict each other, the machine or torchrun.
    """
    parser.set_defaults(**dict.fromkeys(DEFAULTS))
    args = parser.parse_args(argv)
    given = {flag: getattr(args, flag) for flag in DEFAULTS if getattr(args, flag) is not None}
    if under_torchrun(environ):
        found = _torchrun_flags(given, environ)
    else:
        found = {**DEFAULTS, **given}
        _check_flags(**found)
    _check_gpus(found["num_gpus"])
    return Namespace(**{**vars(args), **found})


def _torchrun_flags(given: dict, environ: Mapping[str, str]) -> dict:
    rank, size, local_size = (int(environ[n]) for n in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if size % local_size:
        raise ConfigError(
            f"torchrun started {size} processes, {local_size} of them on this machine: start as "
            "many on each machine"
        )
    host = environ["MASTER_ADDR"]
    host = f"[{host}]" if ":" in host else host
    url = f"tcp://{host}:{environ['MASTER_PORT']}"
    found = dict(zip(DEFAULTS, (local_size, size // local_size, rank // local_size, url)))
    for flag, value in given.items():
        if value != found[flag]:
            spelled = "--" + flag.replace("_", "-")
            raise ConfigError(
                f"{spelled} {value} contradicts torchrun, which says {found[flag]}: leave it out"
            )
    return found


def _check_flags(*, num_gpus, num_machines, machine_rank, dist_url) -> None:
    for flag, value in (("--num-gpus", num_gpus), ("--num-machines", num_machines)):
        if value < 1:
            raise ConfigError(f"{flag} must be at least 1, got {value}")
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(
            f"--machine-rank {machine_rank} must be at least 0 and below --num-machines "
            f"({num_machines})"
        )
    if num_machines > 1 and dist_url == "auto":
        raise ConfigError(
            "--num-machines needs --dist-url tcp://HOST:PORT, with a host name of machine 0 that "
            "all machines reach"
        )
    if dist_url != "auto" and not _is_address(dist_url):
        raise ConfigError(f"--dist-url {dist_url} must be tcp://HOST:PORT, or auto on one machine")


def _is_address(dist_url: str) -> bool:
    try:
        address = urlsplit(dist_url)
        return address.scheme == "tcp" and bool(address.hostname and address.port)
    except ValueError:  # no number, or too large
        return False


def _check_gpus(processes: int) -> None:
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise ConfigError(
            f"this machine has {torch.cuda.device_count()} GPUs, too few for {processes} "
            "processes: start fewer, or set CUDA_VISIBLE_DEVICES to '' to train on the CPU"
        )
