"""Trainings of the demo as processes of train_net.py, watched through their metrics files."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Tuple

from soft_teacher.data.builtin import dataset_root
from soft_teacher.engine.yaml_entry import load_config

SECONDS_BETWEEN_LINES = 15
NETWORKS = ("student", "teacher")


class Run:
    """One training: a config, a seed and a folder."""

    def __init__(self, name: str, config_file: Path, folder: Path, seed: int, opts: List[str]):
        self.name = name
        self.config_file = config_file
        self.folder = folder / name
        fold = f"digits_fold{seed + 1}"
        self.opts = ["SEED", str(seed), "OUTPUT_DIR", str(self.folder)]
        self.opts += ["DATASETS.TRAIN_LABELED", f"('{fold}_labeled',)"]
        cfg = load_config(str(config_file), self.opts)
        if cfg.DATASETS.TRAIN_UNLABELED:
            names = (f"{fold}_unlabeled", "digits_unlabeled")
            self.opts += ["DATASETS.TRAIN_UNLABELED", str(names)]
        self.opts += opts
        self.cfg = load_config(str(config_file), self.opts)
        self._process = None

    @property
    def finished(self) -> bool:
        return self._read("finished.json") == self._fingerprint()

    def start(self, train_net: Path) -> None:
        """Starts the training, or goes on with it where the folder holds a part of the same one."""
        if self._read("started.json") != self._fingerprint():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write("started.json")
        command = [sys.executable, str(train_net), "--config-file", str(self.config_file)]
        # One thread each: two trainings with two threads each on two cores crawl.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        with open(self.folder / "stdout.txt", "a") as log:
            self._process = subprocess.Popen(
                command + ["--resume", *self.opts], stdout=log, stderr=log, env=environment
            )

    def poll(self) -> bool:
        """Whether the training still runs.

        Raises:
            RuntimeError: if it failed, with the end of what it printed.
        """
        code = self._process.poll()
        if code is None:
            return True
        if code:
            tail = (self.folder / "stdout.txt").read_text().strip().split("\n")[-15:]
            raise RuntimeError(f"{self.name} failed with status {code}:\n" + "\n".join(tail))
        self._write("finished.json")
        return False

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def metrics(self) -> List[dict]:
        """The lines that the training has written so far."""
        path = self.folder / "metrics.json"
        if not path.is_file():
            return []
        lines = path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def history(self) -> dict:
        """{network: [(step, {metric: value}), ...]} of all evaluations."""
        found = {network: {} for network in NETWORKS}
        for line in self.metrics():
            for network, evaluations in found.items():
                prefix = f"{network}/bbox/"
                values = {k[len(prefix) :]: v for k, v in line.items() if k.startswith(prefix)}
                if values:
                    evaluations[line["iteration"] + 1] = values
        return {network: sorted(e.items()) for network, e in found.items()}

    def progress(self) -> Tuple[int, float]:
        """(steps done, share of the work done); a step costs by its images."""
        # An evaluation is written after the line of a later step.
        step = max((line["iteration"] + 1 for line in self.metrics()), default=0)
        burn_in = self.cfg.SOFT_TEACHER.BURN_IN
        share = self.cfg.SOFT_TEACHER.LABELED_SHARE
        heavy = 1 + 2 * (1 - share) / share  # an unlabeled image costs about two labeled ones

        def work(steps):
            return min(steps, burn_in) + max(steps - burn_in, 0) * heavy

        return step, work(step) / work(self.cfg.SOLVER.MAX_ITER)

    def _fingerprint(self) -> str:
        """Of everything that decides the result: config, data and the code."""
        digest = hashlib.sha256(self.cfg.dump().encode())
        root = dataset_root() / "digits"
        package = Path(sys.modules["soft_teacher"].__file__).parent
        sources = [root / "spec.json", *(root / "splits").glob(f"{self._fold}.json")]
        for path in sources + sorted(package.rglob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @property
    def _fold(self) -> str:
        return self.cfg.DATASETS.TRAIN_LABELED[0].split("_")[1]

    def _read(self, name: str):
        path = self.folder / name
        return json.loads(path.read_text())["fingerprint"] if path.is_file() else None

    def _write(self, name: str) -> None:
        (self.folder / name).write_text(json.dumps({"fingerprint": self._fingerprint()}) + "\n")


def train_together(runs: List[Run], train_net: Path) -> None:
    """Trains what is not finished, all at once, and says how far it is."""
    waiting = [run for run in runs if not run.finished]
    for run in runs:
        state = "trains" if run in waiting else "is reused"
        print(f"{run.name} {state}: {run.folder}", flush=True)
    started, last_line = time.monotonic(), 0.0
    before = {run.name: run.progress()[1] for run in waiting}
    try:
        for run in waiting:
            run.start(train_net)
        while any([run.poll() for run in waiting]):
            elapsed = time.monotonic() - started
            if elapsed - last_line >= SECONDS_BETWEEN_LINES:
                last_line = elapsed
                print(progress_line(waiting, before, elapsed), flush=True)
            time.sleep(1)
    finally:
        for run in waiting:
            run.stop()


def progress_line(runs: List[Run], before: dict, elapsed: float) -> str:
    """Steps, loss and last AP of each run, and the time that the slowest still needs."""
    parts, left = [f"[{clock(elapsed)}]"], []
    for run in runs:
        step, share = run.progress()
        part = f"{run.name} {step}/{run.cfg.SOLVER.MAX_ITER}"
        teacher = run.history()["teacher"]
        if teacher:
            part += f" (teacher AP {teacher[-1][1]['AP']:.1f})"
        parts.append(part)
        gained = share - before[run.name]
        if gained > 0:
            left.append(elapsed * (1 - share) / gained)
    remaining = f"about {clock(max(left))} left" if left else "starting"
    return "  ".join([*parts, remaining])


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
