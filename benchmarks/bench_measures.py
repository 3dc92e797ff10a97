"""Seconds of functions, of contenders that take turns and of parts of them; memory of processes."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

__all__ = ["Clock", "WARM_UP", "memory", "race", "timed", "wait"]

WARM_UP = 2


def wait(device: str) -> None:
    """Until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function: Callable[[], object], device: str = "cpu") -> float:
    """Seconds until the device is done."""
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def race(steps: dict[str, Callable], rounds: int, device: str) -> dict[str, np.ndarray]:
    """Lets functions take turns after a warm-up, the first one last in the next round.

    Returns:
        name -> (rounds,) seconds of a call.
    """
    names = list(steps)
    seconds = {name: [] for name in names}
    for _ in range(WARM_UP + rounds):
        for name in names:
            seconds[name].append(timed(steps[name], device))
        names.append(names.pop(0))
    return {name: np.array(values[WARM_UP:]) for name, values in seconds.items()}


class Clock:
    """Seconds by name of a part; the time of an inner part does not count for the outer one.

    Attributes:
        seconds: Counter, part -> seconds.
    """

    def __init__(self, device: str = "cpu"):
        self.seconds = Counter()
        self._device = device
        self._inner = 0.0

    @contextmanager
    def part(self, name: str):
        outer, self._inner = self._inner, 0.0
        wait(self._device)
        start = time.perf_counter()
        yield
        wait(self._device)
        elapsed = time.perf_counter() - start
        self.seconds[name] += elapsed - self._inner
        self._inner = outer + elapsed

    def watch(self, thing, method: str, name: str) -> None:
        """Counts the time of a method of one object as a part."""
        function = getattr(thing, method)

        def timed(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        setattr(thing, method, timed)


def memory(pid: int | str = "self", kinds: str = "smaps_rollup") -> dict[str, float]:
    """Megabytes of a process by kind, as in /proc/PID/KINDS.

    The peak is VmHWM of "status", not that of ``resource.getrusage``, which starts at what the
    parent held.
    """
    lines = Path(f"/proc/{pid}/{kinds}").read_text().splitlines()
    fields = [line.split() for line in lines if line.endswith(" kB")]
    return {name[:-1]: int(kilobytes) * 1024 / 1e6 for name, kilobytes, _ in fields}
