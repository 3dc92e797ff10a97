"""SIGTERM and Ctrl-C end a training after the step it is in, with everything saved."""

import logging
import shlex
import signal
import sys
from typing import Callable, List, Optional

from detectron2.engine import HookBase
from detectron2.utils import comm

from .train_loop import SoftTeacherLoop

__all__ = ["StopOnSignal", "resume_command"]

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(HookBase):
    """Raises SystemExit(128 + signal) after the step in which a signal came to any rank.

    Register it last, and the hook that saves unfinished trainings before it.
    """

    def __init__(self, loop: SoftTeacherLoop):
        """
        Args:
            loop: shares the wish to stop with all ranks.
        """
        self.loop = loop
        self._at_once = False
        self._signal: Optional[int] = None
        self._handlers = {}

    def before_train(self) -> None:
        self._handlers = {s: signal.signal(s, self._note) for s in SIGNALS}

    def after_step(self) -> None:
        if self.loop.stops:
            self._exit()

    def after_train(self) -> None:
        if self.loop.stops:
            comm.synchronize()  # the first to end would have a rank that still saves killed
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._signal is not None and comm.is_main_process():
            done = self.trainer.iter + 1
            print(f"stopped by {signal.Signals(self._signal).name} after {done} steps; go on with")
            print(f"  {resume_command(sys.argv)}", flush=True)

    def interruptible(self, function: Callable) -> Callable:
        """``function``, which a signal stops at once: nothing of the training is under way."""

        def run():
            self._at_once = True
            try:
                return function()
            finally:
                self._at_once = False

        return run

    def _note(self, number: int, frame) -> None:
        self._signal = number
        self.loop.wants_to_stop = True
        if self._at_once:
            self._exit()

    def _exit(self) -> None:
        # Another rank may have had the signal.
        self._signal = self._signal or signal.SIGTERM
        raise SystemExit(128 + self._signal)


def resume_command(argv: List[str]) -> str:
    """The command line of this process with --resume."""
    script, *rest = argv
    flags = rest if "--resume" in rest else ["--resume", *rest]
    return shlex.join(["python", script, *flags])
