"""When checkpoints are saved, which of them are kept, and that a full disk is no end."""

import logging
import math
import os
import re
from typing import List, Optional

from detectron2.engine import HookBase

from ..utils.errors import TrainingError, is_full_disk, one_line

__all__ = [
    "BEST",
    "BestTeacher",
    "LastStepSaver",
    "Saver",
    "StepsDone",
    "numbered_checkpoints",
]

logger = logging.getLogger(__name__)

BEST = "model_best"
FINAL = "model_final"


def numbered_checkpoints(folder: str) -> List[str]:
    """The periodic checkpoints ``model_0000123.pth`` in a folder, oldest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [n for n in names if re.fullmatch(r"model_\d{7,}\.pth", n)]
    return [os.path.join(folder, n) for n in sorted(found, key=lambda n: (len(n), n))]


class StepsDone(HookBase):
    """Counts the steps that are complete, the teacher's update included."""

    def __init__(self, loop):
        """
        Args:
            loop: a SoftTeacherLoop.
        """
        self.loop = loop
        self.count: Optional[int] = None

    def before_train(self) -> None:
        self.count = self.trainer.start_iter

    def after_step(self) -> None:
        self.count = self.trainer.iter + 1

    def is_updating(self) -> bool:
        """Whether a step has begun to change the networks and is not complete."""
        return self.loop.last_update >= self.count


class Saver(HookBase):
    """Saves every ``period`` steps, at the end, and whatever is complete when training breaks off.

    A save that fails, for instance because the disk is full, is told and tried again at the next
    one; the last one raises.
    """

    def __init__(
        self, checkpointer, steps_done: StepsDone, period: int, max_to_keep: Optional[int] = None
    ):
        """
        Args:
            checkpointer: a SoftTeacherCheckpointer.
            steps_done: registered before this hook.
            period: steps between checkpoints.
            max_to_keep: periodic checkpoints that are kept, those before a resume included; all
                if None. The final one and the best are kept anyway.
        """
        self.checkpointer = checkpointer
        self.steps_done = steps_done
        self.period = period
        self.max_to_keep = max_to_keep
        self._saved: Optional[int] = None

    def before_train(self) -> None:
        self._saved = self.trainer.start_iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._save(FINAL, done)
        elif done % self.period == 0:
            self.save_or_complain(done)

    def after_train(self) -> None:
        done = self.steps_done.count
        if done is None or done == self._saved:
            return
        if self.steps_done.is_updating():
            logger.error("step %d broke off while it updated the networks: nothing is saved", done)
            return
        # A step that was broken off does not count: the next training repeats it.
        self.trainer.iter = done - 1
        self.save_or_complain(done)

    def save_or_complain(self, done: int) -> None:
        """Saves as after step ``done``, the way a periodic checkpoint is."""
        if self._saves(f"model_{done - 1:07d}", done):
            self._prune()

    def save_before_evaluation(self, done: int) -> None:
        """Saves the last step as the final checkpoint; its evaluation is added to that later."""
        self._saves(FINAL, done)

    def _saves(self, name: str, done: int) -> bool:
        try:
            self._save(name, done)
        except TrainingError as error:
            logger.error("%s; training goes on", error)
            return False
        return True

    def _save(self, name: str, done: int) -> None:
        try:
            self.checkpointer.save(name, iteration=done - 1)
        except (OSError, RuntimeError) as error:  # torch.save turns a failed write into either
            reason = "no space left" if is_full_disk(error) else one_line(error)
            raise TrainingError(
                f"{name}.pth cannot be saved to {self.checkpointer.save_dir} ({reason}): make room "
                "there"
            ) from error
        self._saved = done

    def _prune(self) -> None:
        if self.max_to_keep is None:
            return
        for path in numbered_checkpoints(self.checkpointer.save_dir)[: -self.max_to_keep]:
            os.remove(path)


class LastStepSaver(HookBase):
    """Saves the last step before the evaluation that follows it. Register it before that."""

    def __init__(self, saver: Saver):
        """
        Args:
            saver: of the run; saves that step again after the evaluation.
        """
        self.saver = saver

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self.saver.save_before_evaluation(done)


class BestTeacher(HookBase):
    """Keeps the checkpoint whose teacher had the highest AP, across interruptions, too.

    Register it after the evaluation.
    """

    def __init__(self, checkpointer, metric: str):
        """
        Args:
            checkpointer: a SoftTeacherCheckpointer.
            metric: name of the teacher's AP in the event storage.
        """
        self.checkpointer = checkpointer
        self.metric = metric
        self.best = -math.inf
        self.best_step: Optional[int] = None

    def after_step(self) -> None:
        value, step = self.trainer.storage.latest().get(self.metric, (math.nan, None))
        if step != self.trainer.iter or not value > self.best:
            return
        self.best, self.best_step = float(value), step
        try:
            self.checkpointer.save(BEST, iteration=step)
        except (OSError, RuntimeError) as error:
            logger.error("%s.pth cannot be saved: %s", BEST, one_line(error))

    def state_dict(self) -> dict:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
