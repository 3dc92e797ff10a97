"""Event files that look after an interruption as if there had been none."""

import itertools
import logging
import os
from pathlib import Path
from typing import Callable, List

from detectron2.engine import HookBase
from detectron2.utils.events import (
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..utils.atomic import atomic_write
from ..utils.errors import one_line
from ..utils.folders import try_out
from .metrics_file import METRICS, read_events
from .progress import ProgressLine
from .wandb_writer import WandbWriter

__all__ = ["CLOCKS", "EventFiles", "EventHistory", "build_writers", "trim_metrics"]

logger = logging.getLogger(__name__)

# Writers smooth over this many steps.
WINDOW = 20
# What a clock measured is no part of a training, and starts anew with each of its parts.
CLOCKS = ("data_time", "eta_seconds", "images_per_second", "time")


class FlushedTensorboardWriter(TensorboardXWriter):
    """TensorboardXWriter whose events are on the disk when ``write`` returns.

    After a write that failed it begins another file, as soon as there is room for one.
    """

    def __init__(self, log_dir: str, **kwargs):
        super().__init__(log_dir, **kwargs)
        self._log_dir = log_dir
        self._failed = False

    def write(self) -> None:
        try:
            if self._failed:
                try_out(self._log_dir)
            super().write()
            self._writer.flush()
        except OSError:
            self._fail()
            raise
        self._failed = False

    def _fail(self) -> None:
        self._failed = True
        self.__dict__.pop("_writer", None)  # TensorBoard's thread has died of the error
        self._writer_args.pop("purge_step", None)  # the events of this training stay
        get_event_storage().clear_images()  # they would pile up


def build_writers(
    output_dir: str,
    max_iter: int,
    first: int,
    *,
    resume: bool = False,
    wandb_project: str = "",
    wandb_name: str = "",
) -> List[EventWriter]:
    """Writers to the terminal, to metrics.json, to TensorBoard, and where wanted to W&B.

    Args:
        output_dir: folder of the training.
        max_iter: steps of the whole training.
        first: step that is written first; events of this and later ones in older files of
            TensorBoard are hidden.
        resume: whether the training goes on.
        wandb_project, wandb_name: see :class:`WandbWriter`; without a project it is left out.
    """
    wandb = []
    if wandb_project:
        wandb = [WandbWriter(output_dir, project=wandb_project, name=wandb_name, resume=resume)]
    purge = {"purge_step": first} if first else {}
    return [
        ProgressLine(max_iter),
        JSONWriter(os.path.join(output_dir, METRICS)),
        *wandb,
        FlushedTensorboardWriter(output_dir, **purge),
    ]


def trim_metrics(output_dir: str, first: int) -> None:
    """Drops the events of step ``first`` and later, and what is no event."""
    path = Path(output_dir) / METRICS
    if not path.is_file():
        return
    kept = [line + b"\n" for line, event in read_events(path.parent) if event["iteration"] < first]
    if b"".join(kept) != path.read_bytes():
        with atomic_write(str(path), "wb") as file:
            file.writelines(kept)


class EventFiles(HookBase):
    """Detectron2's PeriodicWriter for trainings that are interrupted and gone on with.

    Register it before the hook that saves checkpoints: a checkpoint then stands for events that
    are on the disk. What was gathered since the last line stays in the checkpoint
    (:class:`EventHistory`) and is written by the training that goes on.
    """

    def __init__(self, output_dir: str, build_writers: Callable, period: int = 20):
        """
        Args:
            output_dir: folder of the training.
            build_writers: (first step to write, whether the run was resumed) -> EventWriters;
                called when the loop starts.
            period: steps between writes.
        """
        self.output_dir = output_dir
        self.build_writers = build_writers
        self.period = period
        self.writers: List[EventWriter] = []
        # Events of so many steps are on the disk; None if no checkpoint has told.
        self.written: int | None = None
        self._failing = set()

    def before_train(self) -> None:
        if self.written is None:
            start = self.trainer.start_iter
            self.written = start - start % self.period
        trim_metrics(self.output_dir, self.written)
        self.writers = self.build_writers(self.written, self.trainer.start_iter > 0)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done == self.trainer.max_iter:
            for writer in self.writers:
                self._survive(writer, writer.write)
            self.written = done

    def after_train(self) -> None:
        for writer in self.writers:
            self._survive(writer, writer.close)

    def _survive(self, writer: EventWriter, act: Callable[[], None]) -> None:
        """Calls a method of a writer; why it fails is told once, until it works again."""
        try:
            act()
        except Exception as error:  # full disks, and all that a package for the web can raise
            if writer not in self._failing:
                name = type(writer).__name__
                reason = one_line(error)
                logger.error("%s fails in %s (%s); training goes on", name, self.output_dir, reason)
            self._failing.add(writer)
        else:
            self._failing.discard(writer)

    def state_dict(self) -> dict:
        return {"written": self.written}

    def load_state_dict(self, state_dict: dict) -> None:
        self.written = state_dict["written"]


class EventHistory(HookBase):
    """Keeps in checkpoints what writers would smooth over, or have not written yet."""

    def __init__(self, files: EventFiles):
        """
        Args:
            files: know what was written.
        """
        self.files = files
        self._saved = {}

    def state_dict(self) -> dict:
        storage, last = self.trainer.storage, self.trainer.iter
        hints = storage.smoothing_hints()
        return {
            name: {"values": _latest(history.values(), last), "smooth": hints.get(name, True)}
            for name, history in storage.histories().items()
            if name not in CLOCKS
        }

    def load_state_dict(self, state_dict: dict) -> None:
        self._saved = state_dict

    def before_train(self) -> None:
        storage, written = self.trainer.storage, self.files.written
        for name, saved in self._saved.items():
            for value, step in saved["values"]:
                if step < written:  # putting it would have it written again
                    storage.histories()[name].update(value, step)
                else:
                    storage.put_scalar(
                        name, value, smoothing_hint=saved["smooth"], cur_iter=int(step)
                    )


def _latest(values: list[tuple[float, int]], last: int) -> list[tuple[float, int]]:
    """The last values without those of a step that broke off, which will be logged again."""
    complete = itertools.dropwhile(lambda value: value[1] > last, reversed(values))
    return list(itertools.islice(complete, WINDOW))[::-1]
