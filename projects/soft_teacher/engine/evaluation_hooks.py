"""Evaluation after steps, and the one that a resumed run catches up on."""

import logging
from collections.abc import Callable, Sequence

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from ..distributed.heartbeat import is_lost_peer
from ..utils.errors import TrainingError, is_full_disk, one_line

__all__ = ["Evaluation", "PendingEvaluation"]

logger = logging.getLogger(__name__)


class Evaluation(hooks.EvalHook):
    """Detectron2's EvalHook that counts the evaluation after the last step as part of that step.

    Its state says which evaluation was the last to succeed, so that a resumed run knows whether one
    is missing.
    """

    def __init__(self, period: int, evaluate: Callable):
        """
        Args:
            period: steps between evaluations; 0 evaluates after the last step only.
            evaluate: () -> nested dict of results.
        """
        super().__init__(period, evaluate)
        self.evaluated = 0

    def is_due(self, done: int) -> bool:
        """Whether an evaluation follows when ``done`` steps are done."""
        return done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0)

    def is_pending(self, done: int) -> bool:
        """Whether the evaluation that follows ``done`` steps has not succeeded yet."""
        return done > 0 and done != self.evaluated and self.is_due(done)

    def after_step(self) -> None:
        """
        Raises:
            TrainingError: the evaluation failed, for a reason other than a full disk in mid-run.
        """
        done = self.trainer.iter + 1
        if not self.is_due(done):
            return
        try:
            self._do_eval()
        except Exception as error:
            if is_lost_peer(error):
                raise
            if is_full_disk(error) and done < self.trainer.max_iter:
                logger.error("%s; training continues without this evaluation", error)
                comm.synchronize()  # as the other ranks do after an evaluation
                return
            raise TrainingError(
                f"the evaluation after {done} steps failed ({one_line(error)}): all steps are "
                "saved; once the cause is fixed, --resume evaluates again and continues"
            ) from error
        self.evaluated = done

    def after_train(self) -> None:
        """Does nothing: the last step has evaluated."""

    def state_dict(self) -> dict:
        return {"evaluated": self.evaluated}

    def load_state_dict(self, state_dict: dict) -> None:
        self.evaluated = state_dict["evaluated"]


class PendingEvaluation(HookBase):
    """Starts a resumed run with the evaluation that was missing when it was interrupted.

    Register it after all hooks that the evaluation needs.
    """

    def __init__(self, evaluation: Evaluation, closing: Sequence[HookBase]):
        """
        Args:
            closing: the hooks that follow the evaluation in a step, in their order.
        """
        self.evaluation = evaluation
        self.closing = closing

    def before_train(self) -> None:
        start = self.trainer.start_iter
        if not self.evaluation.is_pending(start):
            return
        self._set_step(start - 1)
        for hook in (self.evaluation, *self.closing):
            hook.after_step()
        self._set_step(start)

    def _set_step(self, step: int) -> None:
        self.trainer.iter = self.trainer.storage.iter = step
