"""Runs as separate processes, which can be interrupted from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training import CONFIGS, LAZY_OPTS, ROOT

from soft_teacher.monitoring.events import CLOCKS


class Training:
    """train_net.py on a LazyConfig of the demo, made small, in a folder."""

    def __init__(
        self, folder: Path, *opts: str, processes: int = 1, config: str = "soft_teacher.py"
    ):
        self.folder = Path(folder)
        self.config = CONFIGS / config
        self.processes = processes
        self.opts = [*LAZY_OPTS, *opts, f"train.output_dir={folder}"]
        self.output = self.folder.with_suffix(".txt")
        self.process = None

    def start(self, *, resume: bool = False, opts=()) -> "Training":
        command = [sys.executable, "-W", "ignore", str(ROOT / "train_net.py"), "--config-file"]
        command += [str(self.config), "--num-gpus", str(self.processes)]
        command += ["--resume"] * resume + [*self.opts, *opts]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "projects"), "OMP_NUM_THREADS": "1"}
        with open(self.output, "a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        return self

    def wait(self) -> int:
        return self.process.wait()

    def finish(self, **how) -> "Training":
        assert self.start(**how).wait() == 0, self.text()[-3000:]
        return self

    def signal(self, number: int, *, after_lines: int, delay: float = 0.0) -> int:
        """Waits for as many lines of metrics, then for ``delay`` seconds; returns the status."""
        deadline = time.monotonic() + 120
        while len(self.lines()) < after_lines and self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()[-3000:]
            time.sleep(0.02)
        time.sleep(delay)
        if number == signal.SIGTERM:  # as a scheduler does
            self.process.send_signal(number)
        else:  # as a terminal does, or a machine that is switched off
            os.killpg(self.process.pid, number)
        return self.wait()

    def kill(self, **when) -> None:
        assert self.signal(signal.SIGKILL, **when) == -signal.SIGKILL

    def text(self) -> str:
        return self.output.read_text()

    def lines(self) -> list:
        """metrics.json by step, without clocks; a line that is being written is left out."""
        path = self.folder / "metrics.json"
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        found = [{k: v for k, v in json.loads(line).items() if k not in CLOCKS} for line in lines]
        # Lines that are written at once stand in the order in which their scalars first came up.
        return sorted(found, key=lambda line: line["iteration"])

    def events(self) -> dict:
        """{tag: [(step, value as text), ...]} of TensorBoard without clocks."""
        accumulator = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        accumulator.Reload()
        return {
            tag: [(event.step, repr(event.value)) for event in accumulator.Scalars(tag)]
            for tag in accumulator.Tags()["scalars"]
            if tag not in CLOCKS
        }

    def checkpoints(self) -> list:
        return sorted(path.name for path in self.folder.glob("*.pth"))
