"""Many runs, a few at a time."""

import functools
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from soft_teacher.utils.errors import TrainingError

from .run import REPOSITORY, Run

__all__ = ["Queue", "clock", "say"]

SECONDS_BETWEEN_LINES = 15


say = functools.partial(print, flush=True)


class Queue:
    """Trains what is not finished and reports progress.

    When it is left early, as by Ctrl-C or SIGTERM, all processes are stopped; another queue resumes
    the runs.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        jobs: int,
        root: Path = REPOSITORY,
        keep_going: bool = True,
        say: Callable[[str], None] = say,
    ):
        """
        Args:
            runs: in the order to start them, but for those that wait for another one, which is
                finished or among them.
            jobs: runs at the same time.
            root: of the copy of the repository whose code trains.
            keep_going: train the others after one has failed.
            say: prints a line.
        """
        self.waiting = [run for run in runs if not run.finished]
        self.running: list[Run] = []
        self.failed: dict[str, str] = {}
        self.jobs = jobs
        self.root = root
        self.keep_going = keep_going
        self.say = say
        self._total = len(runs)
        self._begun: dict[Run, tuple[float, float]] = {}  # seconds and work when it started
        self._zero = time.monotonic()
        for run in runs:
            say(f"{run.name} {'trains' if run in self.waiting else 'is reused'}: {run.folder}")

    def train(self, seconds_between_looks: float = 1.0) -> dict[str, str]:
        """Returns when nothing is left to do.

        Returns:
            name -> message of the runs that failed.

        Raises:
            TrainingError: one failed, if ``keep_going`` is not set.
        """
        self._zero = line = time.monotonic()
        before = signal.signal(signal.SIGTERM, _exit)
        try:
            while self.waiting or self.running:
                self._start_some()
                time.sleep(seconds_between_looks)
                self._look()
                if time.monotonic() - line >= SECONDS_BETWEEN_LINES:
                    line = time.monotonic()
                    self.say(self.progress_line(self._elapsed()))
        finally:
            for run in self.running:
                run.stop()
            signal.signal(signal.SIGTERM, before)
        return self.failed

    def progress_line(self, elapsed: float) -> str:
        """Steps and AP of what is training, how many runs are done, and the time left.

        Args:
            elapsed: seconds since the start.
        """
        parts = [f"[{clock(elapsed)}]", *map(_how_far, self.running)]
        done = self._total - len(self.running) - len(self.waiting)
        if done or self.waiting:
            parts.append(f"{done} of {self._total} done")
        left = self._seconds_left(elapsed)
        return "  ".join([*parts, "starting" if left is None else f"about {clock(left)} left"])

    def _start_some(self) -> None:
        for run in list(self.waiting):
            unfinished = [need for need in run.after if need in self.waiting + self.running]
            lost = [need.name for need in run.after if need.name in self.failed]
            if lost:
                self.waiting.remove(run)
                self._fail(run, f"{run.name} needs {lost[0]}, which failed")
            elif not unfinished and len(self.running) < self.jobs:
                self.waiting.remove(run)
                self.running.append(run)
                run.start(self.root)
                self._begun[run] = (self._elapsed(), run.work(run.steps))

    def _look(self) -> None:
        for run in list(self.running):
            try:
                if run.poll():
                    continue
                self.say(f"{run.name} is finished after {clock(run.record.seconds)}")
            except TrainingError as error:
                if not self.keep_going:
                    raise
                self._fail(run, str(error))
            self.running.remove(run)

    def _fail(self, run: Run, message: str) -> None:
        self.failed[run.name] = message
        self.say(f"error: {message}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._zero

    def _seconds_left(self, elapsed: float) -> float | None:
        """By the speed so far, of all jobs together and of the slowest one."""
        gained = {run: run.work(run.steps) - work for run, (_, work) in self._begun.items()}
        if not sum(gained.values()):
            return None
        left = {run: run.work_left for run in self.waiting + self.running}
        slowest = [
            (elapsed - self._begun[run][0]) * left[run] / gained[run]
            for run in self.running
            if gained[run]
        ]
        return max([elapsed * sum(left.values()) / sum(gained.values()), *slowest])


def _exit(number: int, frame) -> None:
    """Instead of the default action, which would leave the processes behind."""
    raise SystemExit(128 + number)


def _how_far(run: Run) -> str:
    text = f"{run.name} {run.steps}/{run.max_iter}"
    teacher = run.history()["teacher"]
    return text + f" (teacher AP {teacher[-1][1]['AP']:.1f})" if teacher else text


def clock(seconds: float) -> str:
    """Minutes and seconds, from an hour on with the hours."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
