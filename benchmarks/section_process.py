"""A section of a check in a process of its own: what it hangs or crashes on costs it alone.

The process is a fork, which saves importing PyTorch and Detectron2 again. So this one must neither
touch CUDA nor compute with PyTorch: CUDA and the threads of OpenMP do not survive a fork.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DONE", "Outcome", "run_section"]

DONE = "done"
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Outcome:
    """How a section ended.

    Attributes:
        status: ``DONE``, or one line about why it is incomplete.
        seconds: that it took.
    """

    status: str
    seconds: float


def run_section(
    section: Callable[[], None],
    *,
    limit: float,
    log: Path,
    progress: Callable[[], None] = lambda: None,
) -> Outcome:
    """Calls a section, and ends it and everything that it started once its time is over.

    Args:
        section: what to call.
        limit: seconds that it may take.
        log: file that gets what it prints, after what it holds already.
        progress: called again and again while it runs.
    """
    started = time.monotonic()
    begin = log.stat().st_size if log.exists() else 0
    process = multiprocessing.get_context("fork").Process(target=_begin, args=(section, log))
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
    printed = log.read_bytes()[begin:].decode(errors="replace")
    lines = [line.strip() for line in printed.splitlines()]
    last = next((line for line in reversed(lines) if line), "nothing was printed")
    return f"ended with status {code}: {last}"
