"""SIGTERM and Ctrl-C end a run after the current step, with everything saved."""

import signal
import sys
from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.utils import comm

from ..utils.command_line import shown_command
from .train_loop import SoftTeacherLoop

__all__ = ["StopOnSignal", "resume_command"]


class StopOnSignal(HookBase):
    """Raises SystemExit(128 + signal) after the step in which a signal came to any rank.

    Register it last, after the hook that saves unfinished runs.
    """

    def __init__(self, loop: SoftTeacherLoop):
        """
        Args:
            loop: shares the wish to stop with all ranks.
        """
        self.loop = loop
        self._at_once = False
        self._signal: int | None = None
        self._handlers = {}

    def before_train(self) -> None:
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._handlers = {number: signal.signal(number, self._note) for number in numbers}

    def after_step(self) -> None:
        if self.loop.stops:
            self._exit()

    def after_train(self) -> None:
        if self.loop.stops:
            comm.synchronize()  # the first rank to exit would have those that still save killed
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._signal is not None and comm.is_main_process():
            done = self.trainer.iter + 1
            print(f"stopped by {signal.Signals(self._signal).name} after {done} steps; resume with")
            print(f"  {resume_command(sys.argv)}", flush=True)

    def interruptible(self, function: Callable) -> Callable:
        """``function``, which a signal stops at once, as no step is under way."""

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
        # Another rank may have received the signal.
        self._signal = self._signal or signal.SIGTERM
        raise SystemExit(128 + self._signal)


def resume_command(argv: list[str]) -> str:
    """The command line of this process with --resume."""
    script, *rest = argv
    return shown_command([script, *["--resume"] * ("--resume" not in rest), *rest])
