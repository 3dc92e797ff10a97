"""Runs a function on all ranks, and reports how it ended."""

import multiprocessing
import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pydoc import locate
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
from detectron2.engine import launch
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..utils.command_line import STATUSES, status_of
from ..utils.errors import ConfigError
from .heartbeat import SILENCE, Heartbeat
from .launch_args import free_address, under_torchrun

__all__ = ["LOST_RANK", "connect", "leave_group", "run"]

# Exit status of a process that ended because another rank was dead.
LOST_RANK = 75
# Seconds that a rank whose connection broke waits for the heartbeat to name the dead one, or, where
# all ranks have one parent, for that to see the rank end.
PATIENCE, BRIEF_PATIENCE = 24.0, 3.0
# Seconds of silence after which a parent kills: by then the live ranks have ended.
PARENT_SILENCE = SILENCE + 10.0


def run(main: Callable[[Namespace], object], args: Namespace) -> int:
    """Runs ``main(args)`` on every rank and reports a failure in one line.

    Args:
        main: importable by child processes.
        args: of :func:`~soft_teacher.distributed.launch_args.parse_launch_args`.

    Returns:
        the exit status: 0, 2 for a ConfigError, 128 + signal for a signal,
        :data:`LOST_RANK` where another rank was dead, else that of the rank that failed first.
    """
    if not under_torchrun() and args.num_machines * args.num_gpus > 1:
        return _run_children(main, args)
    try:
        if args.num_machines * args.num_gpus > 1:
            _join_torchrun(args.num_gpus)
        _on_rank(main, args)
    except tuple(STATUSES) as error:
        if comm.get_world_size() == 1 or _reports_first(args.dist_url):
            _print(f"error: {error}")
        return status_of(type(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    leave_group()
    return 0


def leave_group() -> None:
    """Ends this rank's threads of gloo or NCCL, with which a process may be aborted on exit."""
    if dist.is_initialized():
        dist.destroy_process_group()
        # Detectron2 caches the group that it gathers over, which would keep its threads alive.
        comm._get_global_gloo_group.cache_clear()


def connect(dist_url: str) -> dist.Store:
    """A new connection to the store of the process group at tcp://HOST:PORT of rank 0.

    A blocking wait of the main thread locks the group's own connection. Raises OSError or
    RuntimeError if there is no store.
    """
    url = urlsplit(dist_url)
    address = (url.hostname, url.port)
    timeout = timedelta(minutes=1)
    # TCPStore would wait for its server, and fill the log if that is gone.
    socket.create_connection(address, timeout.total_seconds()).close()
    client = dist.TCPStore(*address, is_master=False, wait_for_workers=False, timeout=timeout)
    # torchrun keeps its store when it restarts the ranks.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"soft_teacher/{attempt}", client)


def _join_torchrun(local_size: int) -> None:
    """Does what Detectron2's launch does in a child, with torchrun's numbers."""
    if not hasattr(comm, "create_local_process_group"):
        raise ConfigError("this Detectron2 does not run under torchrun: use --num-gpus instead")
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=DEFAULT_TIMEOUT)
    comm.create_local_process_group(local_size)
    comm.synchronize()


def _on_rank(main: Callable, args: Namespace) -> None:
    """``main`` on one rank, with a heartbeat if there are others."""
    if comm.get_world_size() == 1:
        main(args)
        return
    one_parent = args.num_machines == 1 and not under_torchrun()
    patience = BRIEF_PATIENCE if one_parent else PATIENCE
    with _heartbeat(args, rank=comm.get_rank(), end=_end, patience=patience):
        main(args)


def _heartbeat(args: Namespace, **settings) -> Heartbeat:
    size = args.num_machines * args.num_gpus
    return Heartbeat(connect=partial(connect, args.dist_url), world_size=size, **settings)


def _reports_first(dist_url: str) -> bool:
    """Whether no other rank has reported a mistake that all of them make."""
    try:
        return connect(dist_url).add("reported", 1) == 1
    except (OSError, RuntimeError):
        return True


def _run_children(main: Callable, args: Namespace) -> int:
    if args.dist_url == "auto":
        args = Namespace(**{**vars(args), "dist_url": free_address()})
    with _forwarded_signals() as received:
        try:
            with _parent_heartbeat(args):
                launch(
                    _child,
                    args.num_gpus,
                    num_machines=args.num_machines,
                    machine_rank=args.machine_rank,
                    dist_url=args.dist_url,
                    args=(main, args),
                )
            status = 0
        except ProcessRaisedException as error:
            status = _raised(error, args)
        except ProcessExitedException as error:
            status = _exited(error, args, stopped=bool(received))
    # A child that Ctrl-C reaches before main() ends as if all were well.
    return 128 + received[0] if received and status == 0 else status


def _parent_heartbeat(args: Namespace) -> Heartbeat:
    """Lets the parent kill ranks of its machine that hang and ignore SIGTERM."""

    def end(line: str) -> None:
        # A rank that has ended has reported why.
        _end(line if len(multiprocessing.active_children()) == args.num_gpus else None)

    return _heartbeat(args, rank=-1, end=end, silence=PARENT_SILENCE)


def _end(line: str | None) -> None:
    """Prints the line and ends this process with its children, whatever its other threads do."""
    if line:
        _print(line)
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(timeout=5)  # in an uninterruptible wait it survives even SIGKILL
    os._exit(LOST_RANK)


def _child(main: Callable, args: Namespace) -> None:
    try:
        _on_rank(main, args)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit:
        leave_group()
        raise
    leave_group()


def _raised(error: ProcessRaisedException, args: Namespace) -> int:
    last = error.msg.strip().splitlines()[-1]
    name, _, message = last.partition(": ")
    kind = locate(name)
    if isinstance(kind, type) and issubclass(kind, tuple(STATUSES)):
        _print(f"error: {message}")
        return status_of(kind)
    _print(error.msg)
    _print_ended(error, args, last)
    return 1


def _exited(error: ProcessExitedException, args: Namespace, *, stopped: bool) -> int:
    code = error.exit_code
    if code < 0 and not stopped:
        _print_ended(error, args, f"signal {error.signal_name}")
    # A rank that lost another has reported it; above 128 are those that were ended by a signal.
    elif 0 < code <= 128 and code != LOST_RANK:
        _print_ended(error, args, f"status {code}")
    return 128 - code if code < 0 else code


def _print_ended(error, args: Namespace, how: str) -> None:
    rank = args.machine_rank * args.num_gpus + error.error_index
    pid = getattr(error, "error_pid", None) or error.pid  # as older PyTorch calls it
    _print(f"error: rank {rank} (pid {pid}, {how}) ended; the others were stopped")


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _forwarded_signals():
    """Forwards SIGTERM and Ctrl-C to the children, once each; yields a list of those that came."""
    received: list[int] = []

    def forward(number: int, frame) -> None:
        if number in received:
            return
        received.append(number)
        children = multiprocessing.active_children()
        if not children:
            sys.exit(128 + number)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # A signal that is ignored, as in the background of a shell, stays so.
    previous = {n: handler for n, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in previous:
        signal.signal(number, forward)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
