"""Small hooks of the training loop."""

import logging
import shlex
import sys
from typing import Callable

from detectron2.engine import HookBase, hooks

from ..analysis.run_report import write_report
from ..errors import one_line

__all__ = ["Evaluation", "HTMLReport"]

logger = logging.getLogger(__name__)


class Evaluation(hooks.EvalHook):
    """Detectron2's EvalHook that counts the evaluation after the last step as part of that step.

    So a checkpoint of any step, the last included, is saved after its evaluation.
    """

    def __init__(self, period: int, evaluate: Callable):
        """
        Args:
            period: steps between evaluations; 0 evaluates after the last step only.
            evaluate: () -> nested dict of results.
        """
        super().__init__(period, evaluate)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self._do_eval()

    def after_train(self) -> None:
        """Nothing: the last step has evaluated."""


class HTMLReport(HookBase):
    """Writes the report of a training that came to its end. Register it after the event files."""

    def __init__(self, output_dir: str):
        """
        Args:
            output_dir: folder of the training.
        """
        self.output_dir = output_dir

    def after_train(self) -> None:
        if self.trainer.iter < self.trainer.max_iter:
            return
        try:
            path = write_report(self.output_dir, command=shlex.join(["python", *sys.argv]))
        except Exception as error:  # nothing about a report is worth failing a finished training
            logger.error("no report: %s", one_line(error))
        else:
            logger.info("report: %s", path)
