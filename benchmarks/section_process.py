"""Forked processes: a section of a check, which may hang or crash, and children of a section.

Forks save importing PyTorch and Detectron2 again. So the caller must neither touch CUDA nor compute
with PyTorch: CUDA and the threads of OpenMP do not survive a fork.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["DONE", "Outcome", "in_children", "run_section"]

DONE = "done"
POLL_SECONDS = 0.1
FORK = multiprocessing.get_context("fork")


class Outcome(NamedTuple):
    """``DONE`` or one line about why a section is incomplete, and the seconds that it took."""

    status: str
    seconds: float


def run_section(
    section: Callable[[], None],
    *,
    limit: float,
    log: Path,
    progress: Callable[[], None] = lambda: None,
) -> Outcome:
    """Calls a section, and kills it and everything that it started once its time is over.

    Args:
        limit: seconds.
        log: file to append its output to.
        progress: called again and again while it runs.
    """
    started = time.monotonic()
    begin = log.stat().st_size if log.exists() else 0
    process = FORK.Process(target=_begin, args=(section, log))
    process.start()
    try:
        while process.is_alive() and time.monotonic() - started < limit:
            process.join(POLL_SECONDS)
            progress()
        status = _status(process.exitcode, limit, log, begin)
    finally:
        process.kill()
        with suppress(ProcessLookupError):  # a section that is over may have left workers behind
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return Outcome(status, time.monotonic() - started)


def _begin(section: Callable[[], None], log: Path) -> None:
    os.setsid()  # the group to kill
    sys.stdout = sys.stderr = open(log, "a", buffering=1)
    for standard in (1, 2):
        os.dup2(sys.stdout.fileno(), standard)
    section()


def _status(code: int | None, limit: float, log: Path, begin: int) -> str:
    if code == 0:
        return DONE
    if code is None:
        return f"stopped at its limit of {limit:g} s"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    printed = log.read_bytes()[begin:].decode(errors="replace").split("\n")
    last = [line.strip() for line in printed if line.strip()][-1:] or ["nothing was printed"]
    return f"ended with status {code}: {last[0]}"


def in_children(function: Callable, *arguments: tuple) -> list[int]:
    """Calls a function in a child for each tuple of arguments, all at once.

    Returns:
        their exit codes, 0 for success and -N for signal N.
    """
    children = [FORK.Process(target=function, args=args) for args in arguments]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]
