"""Where the time of our step goes, what an update of the teacher costs, and who waits."""

import copy
import time
from collections import Counter
from contextlib import contextmanager
from typing import Callable, Dict

import numpy as np
import torch
from bench_reads import DeviceReads, synchronisations
from bench_variants import Ours

from soft_teacher.engine.ema import ema_update

PARTS = (
    "student",
    "teacher",
    "jitter",
    "background scoring",
    "choice and transport of pseudo boxes",
    "optimizer",
    "EMA",
    "watching",
    "data wait",
)


class _Clock:
    """Seconds by part; the time of an inner part does not count for the outer one."""

    def __init__(self, wait: Callable[[], None]):
        self.seconds = Counter()
        self._wait = wait
        self._inner = 0.0

    @contextmanager
    def part(self, name: str):
        outer, self._inner = self._inner, 0.0
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
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

    def watch_passes(self, family) -> None:
        """Counts what every pass of the teacher is asked after it."""
        teach = family.teach

        def watched(*args):
            seen = teach(*args)
            self.watch(seen, "variances", "jitter")
            self.watch(seen, "background_scores", "background scoring")
            return seen

        family.teach = watched


class _Timed:
    """An object whose call is a part."""

    def __init__(self, thing, clock: _Clock, name: str):
        self._thing, self._clock, self._name = thing, clock, name

    def __call__(self, *args):
        with self._clock.part(self._name):
            return self._thing(*args)

    def __getattr__(self, name):
        return getattr(self._thing, name)


def parts(ours: Ours, rounds: int, wait: Callable[[], None]) -> Dict[str, float]:
    """Mean milliseconds of every part of our step, which is no longer usable for anything else.

    Args:
        wait: until the device is done.

    Returns:
        part -> milliseconds: those of ``PARTS``, then "the rest".
    """
    clock, model = _Clock(wait), ours.model
    clock.watch(ours, "step", "the rest")
    clock.watch(ours.loop, "_gradients", "student")
    clock.watch(ours.loop, "_update", "optimizer")
    clock.watch(model, "_teach", "teacher")
    clock.watch_passes(model.family)
    model.pseudo_labeler = _Timed(
        model.pseudo_labeler, clock, "choice and transport of pseudo boxes"
    )
    for hook in ours.hooks:
        clock.watch(hook, "after_step", "EMA" if hook is ours.ema else "watching")
    for _ in range(rounds):
        ours.step()
        waited = ours.storage.latest()["data_time"][0]
        clock.seconds["data wait"] += waited
        clock.seconds["the rest"] -= waited
    return {name: 1000 * clock.seconds[name] / rounds for name in (*PARTS, "the rest")}


def ema_times(ours: Ours, rounds: int, timed: Callable) -> Dict[str, np.ndarray]:
    """Seconds of an update of the teacher, by one call for all tensors and over state dicts.

    Returns:
        "foreach" and "state dict" -> (rounds,) seconds.
    """
    student, teacher = (copy.deepcopy(ours.model.student) for _ in range(2))
    pairs = list(teacher.parameters()), list(student.parameters())
    contenders = {
        "foreach": lambda: ema_update(*pairs, 0.999),
        "state dict": lambda: state_dict_update(teacher, student, 0.999),
    }
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, update in contenders.items():
            seconds[name].append(timed(update))
    return {name: np.array(values) for name, values in seconds.items()}


@torch.no_grad()
def state_dict_update(teacher, student, momentum: float) -> None:
    """The usual way: a new state dict, tensor by tensor, loaded into the teacher."""
    ours, theirs = student.state_dict(), teacher.state_dict()
    updated = {k: momentum * v + (1 - momentum) * ours[k] for k, v in theirs.items()}
    teacher.load_state_dict(updated)


def reads(variant, device: str) -> Dict[str, int]:
    """Where a step makes the host wait for the device: file -> times.

    On a GPU these are the synchronisations that really happen; elsewhere, the calls that would.
    """
    if device == "cuda":
        with synchronisations() as found:
            variant.step()
        return dict(found)
    with DeviceReads() as found:
        variant.step()
    return dict(found.by_file)
