"""Hooks that log what the teacher does while it trains, and report it. None changes a run."""

import logging
import sys
import time
from collections.abc import Callable, Sequence

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from ..data.roles import LABELED, UNLABELED
from ..data.streams.schedule import BatchSchedule
from ..modeling import SoftTeacher
from ..modeling.step_record import StepView
from ..utils.command_line import shown_command
from ..utils.errors import one_line
from .health import HealthCheck
from .run_report import write_report
from .statistics import Totals, scalars
from .window import Window

__all__ = ["HTMLReport", "WatchHook"]

logger = logging.getLogger(__name__)


class WatchHook(HookBase):
    """Logs means over the steps and ranks since the last log line, and warns of bad health.

    There is a host-device sync at log lines, diagnoses and checkpoints only. A resumed run logs
    what it would have logged without the interruption.
    """

    def __init__(
        self,
        model: SoftTeacher,
        schedule: BatchSchedule,
        *,
        patience: int = 200,
        period: int = 20,
        saves: Callable[[int], bool] = lambda done: False,
        class_names: Sequence[str] = (),
    ):
        """
        Args:
            model: not wrapped for the ranks.
            schedule: of the loader.
            patience, class_names: see :class:`~soft_teacher.monitoring.health.HealthCheck`.
            period: steps between log lines, that of the writers.
            saves: steps done -> whether a checkpoint is saved then, the same on all ranks; it then
                holds the totals of all of them.
        """
        self.model = model
        self.schedule = schedule
        self.class_names = class_names
        self.health = HealthCheck(model, patience=patience, class_names=class_names)
        self.period = period
        self.saves = saves
        self._step: list[StepView] = []
        self._window = Window()
        # On the main rank, of all ranks.
        self._collected = Totals()
        self._images, self._seconds = 0, 0.0

    def before_train(self) -> None:
        self.model.observers.append(self._step.append)

    def before_step(self) -> None:
        self._started = time.perf_counter()

    def after_step(self) -> None:
        self._seconds += time.perf_counter() - self._started
        # Only now: a step that is interrupted is repeated, and must not count twice.
        self._add_step()
        done = self.trainer.iter + 1
        logs = done % self.period == 0 or done == self.trainer.max_iter
        if not (logs or self.health.is_due or self.saves(done)):
            return
        gpu_memory = self._collect()
        if logs:
            if comm.is_main_process():
                self._log(self._collected, gpu_memory)
            self._collected = Totals()
            self._images, self._seconds = 0, 0.0
        if self.health.is_due:
            self.health.check(self.trainer.iter)

    def after_train(self) -> None:
        if self._step.append in self.model.observers:
            self.model.observers.remove(self._step.append)

    def state_dict(self) -> dict:
        waiting = self._window.totals()
        totals = self._collected + waiting
        return {"totals": totals.state_dict(), "health": self.health.state_dict(waiting)}

    def load_state_dict(self, state: dict) -> None:
        self.health.load_state_dict(state["health"])
        if comm.is_main_process():
            self._collected = Totals.from_state_dict(state["totals"])

    def _add_step(self) -> None:
        labeled, unlabeled = self._counts(self.trainer.iter)
        self._images += labeled + unlabeled
        if unlabeled:
            self.health.count()
            for view in self._step:
                self._window.add(view)
        if labeled and unlabeled:
            self._window.add_losses(*_losses(self.trainer.storage, self.trainer.iter))
        self._step.clear()

    def _collect(self) -> float:
        """Gathers all windows on the main rank; returns the highest memory use of any GPU, GiB."""
        parts = comm.gather((self._window.totals(), _gpu_memory(self.model.device)))
        self._window.clear()
        new = sum((totals for totals, _ in parts), Totals())
        self._collected = self._collected + new
        self.health.add(new)
        return max((memory for _, memory in parts), default=0.0)

    def _log(self, totals: Totals, gpu_memory: float) -> None:
        step = self.trainer.iter
        counts = [self._counts(s) for s in range(step - step % self.period, step + 1)]
        labeled, unlabeled = map(sum, zip(*counts))
        found = {
            **scalars(totals, self.class_names),
            "labeled_share": labeled / (labeled + unlabeled),
            "images_per_second": self._images / self._seconds,
        }
        if gpu_memory:
            found["gpu_memory_gib"] = gpu_memory
        self.trainer.storage.put_scalars(smoothing_hint=False, **found)

    def _counts(self, step: int) -> tuple[int, int]:
        """Labeled and unlabeled images of a step on all ranks."""
        return self.schedule.total(LABELED, step), self.schedule.total(UNLABELED, step)


def _losses(storage: EventStorage, step: int) -> list[float]:
    """Sums of the losses of labeled and of unlabeled images, on the main rank; 0 elsewhere.

    They are 0, too, at a step that was skipped.
    """
    found = {name: value for name, (value, at) in storage.latest().items() if at == step}
    return [
        sum(value for name, value in found.items() if name.startswith(prefix))
        for prefix in ("sup/loss", "unsup/loss")
    ]


def _gpu_memory(device: torch.device) -> float:
    """The peak of allocated GPU memory, GiB; 0 elsewhere."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


class HTMLReport(HookBase):
    """Writes the report of a run that is complete. Register it after the event files."""

    def __init__(self, output_dir: str):
        self.output_dir = output_dir

    def after_train(self) -> None:
        if self.trainer.iter < self.trainer.max_iter:
            return
        try:
            path = write_report(self.output_dir, command=shown_command(sys.argv))
        except Exception as error:  # nothing about a report is worth failing a complete run
            logger.error("no report: %s", one_line(error))
        else:
            logger.info("report: %s", path)
