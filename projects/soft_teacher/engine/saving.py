"""When checkpoints are saved, which of them are kept, and how a run survives a full disk."""

import logging
import math
import os
import re

from detectron2.engine import HookBase

from ..utils.errors import TrainingError, is_full_disk, one_line

__all__ = ["BEST", "BestTeacher", "LastStepSaver", "Saver", "StepsDone", "numbered_checkpoints"]

logger = logging.getLogger(__name__)

BEST = "model_best"
FINAL = "model_final"


def numbered_checkpoints(folder: str) -> list[str]:
    """The periodic checkpoints ``model_0000123.pth`` in a folder, oldest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [n for n in names if re.fullmatch(r"model_\d{7,}\.pth", n)]
    return [os.path.join(folder, n) for n in sorted(found, key=lambda n: (len(n), n))]


class StepsDone(HookBase):
    """Counts the steps of a SoftTeacherLoop that are complete, the teacher's update included."""

    def __init__(self, loop):
        self.loop = loop
        self.count: int | None = None

    def before_train(self) -> None:
        self.count = self.trainer.start_iter

    def after_step(self) -> None:
        self.count = self.trainer.iter + 1

    def is_updating(self) -> bool:
        """Whether a step has begun to change the networks and is not complete."""
        return self.loop.last_update >= self.count


class Saver(HookBase):
    """Saves every ``period`` steps, at the end, and all complete steps when a run is interrupted.

    A save that fails, for instance because the disk is full, is logged and tried again at the
    next one; the last one raises.
    """

    def __init__(
        self, checkpointer, steps_done: StepsDone, period: int, max_to_keep: int | None = None
    ):
        """
        Args:
            steps_done: registered before this hook.
            period: steps between checkpoints.
            max_to_keep: periodic checkpoints that are kept, those before a resume included; all
                if None. The final one and the best are kept anyway.
        """
        self.checkpointer = checkpointer
        self.steps_done = steps_done
        self.period = period
        self.max_to_keep = max_to_keep
        self._saved: int | None = None

    def before_train(self) -> None:
        self._saved = self.trainer.start_iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self._save(FINAL, done)
        elif done % self.period == 0:
            self._save_numbered(done)

    def after_train(self) -> None:
        done = self.steps_done.count
        if done is None or done == self._saved:
            return
        if self.steps_done.is_updating():
            logger.error(
                "step %d was interrupted while it updated the networks: nothing is saved", done
            )
            return
        # A step that was interrupted does not count: the resumed run repeats it.
        self.trainer.iter = done - 1
        self._save_numbered(done)

    def save_before_evaluation(self, done: int) -> None:
        """Saves the last step as the final checkpoint; its evaluation is added to that later."""
        self._try_to_save(FINAL, done)

    def _save_numbered(self, done: int) -> None:
        if self._try_to_save(f"model_{done - 1:07d}", done) and self.max_to_keep is not None:
            for path in numbered_checkpoints(self.checkpointer.save_dir)[: -self.max_to_keep]:
                os.remove(path)

    def _try_to_save(self, name: str, done: int) -> bool:
        try:
            self._save(name, done)
        except TrainingError as error:
            logger.error("%s; training continues", error)
            return False
        return True

    def _save(self, name: str, done: int) -> None:
        folder = self.checkpointer.save_dir
        try:
            self.checkpointer.save(name, iteration=done - 1)
        except (OSError, RuntimeError) as error:  # torch.save turns a failed write into either
            reason = "no space left" if is_full_disk(error) else one_line(error)
            raise TrainingError(
                f"{name}.pth cannot be saved to {folder} ({reason}): make room there"
            ) from error
        self._saved = done


class LastStepSaver(HookBase):
    """Has a Saver save the last step before its evaluation; it saves that step again afterwards.

    Register it before the evaluation.
    """

    def __init__(self, saver: Saver):
        self.saver = saver

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter:
            self.saver.save_before_evaluation(done)


class BestTeacher(HookBase):
    """Keeps the checkpoint whose teacher had the highest AP, also across interruptions.

    Register it after the evaluation.
    """

    def __init__(self, checkpointer, metric: str):
        """
        Args:
            metric: name of the teacher's AP in the event storage.
        """
        self.checkpointer = checkpointer
        self.metric = metric
        self.best = -math.inf
        self.best_step: int | None = None

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
