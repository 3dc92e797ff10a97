"""A training as a process of train_net.py, watched through its files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType
from typing import Dict, List, Mapping, Optional, Sequence

from soft_teacher.engine.identity import RunIdentity, flat
from soft_teacher.evaluation.evaluate import NETWORKS
from soft_teacher.experiment.yaml_config import load_config
from soft_teacher.monitoring.metrics_file import read_metrics
from soft_teacher.utils.errors import TrainingError

from .record import PACKAGE, Record, code_digest, file_digest, text_digest

__all__ = ["REPOSITORY", "Run"]

REPOSITORY = PACKAGE.parents[1]
# Config keys that do not change the result.
WITHOUT_EFFECT = (
    "DATALOADER.NUM_WORKERS",
    "GLOBAL",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",  # what made them is compared instead
    "OUTPUT_DIR",
    "SOFT_TEACHER.WATCH",
    "SOLVER.CHECKPOINTS_TO_KEEP",
    "SOLVER.CHECKPOINT_PERIOD",
    "VIS_PERIOD",
)
DATA = "data "
PRINTED = "stdout.txt"


class Run:
    """One training: a config with overrides, in a folder of its own."""

    def __init__(
        self,
        name: str,
        config_file: Path,
        folder: Path,
        opts: Sequence[str] = (),
        *,
        data_files: Sequence[Path] = (),
        num_gpus: int = 1,
        any_code: bool = False,
        after: Sequence["Run"] = (),
        preparation: Mapping[Path, Sequence] = MappingProxyType({}),
    ):
        """
        Args:
            name: for people.
            config_file: YAML.
            folder: OUTPUT_DIR.
            opts: KEY VALUE ... overrides.
            data_files: what tells the data; files that are not there are not compared.
            num_gpus: processes of the training.
            any_code: what other code has trained counts as this training, too.
            after: runs that must be finished before this one starts.
            preparation: file -> the command line that makes it before the training, without the
                interpreter; its Paths are relative to the repository, or absolute.

        Raises:
            ConfigError: for a mistake in the config.
        """
        self.name = name
        self.config_file = Path(config_file)
        self.folder = Path(folder)
        self.opts = [*map(str, opts), "OUTPUT_DIR", str(folder)]
        self.num_gpus = num_gpus
        self.any_code = any_code
        self.after = list(after)
        self.preparation = dict(preparation)
        self.cfg = load_config(str(config_file), self.opts)
        self._data_files = list(data_files)
        self._process: Optional[subprocess.Popen] = None
        self._commands: List[List[str]] = []
        self._root = REPOSITORY
        self._started = 0.0

    @property
    def identity(self) -> RunIdentity:
        """Everything but the code that decides the result; data that are not there are left out."""
        files = [path for path in self._data_files if path.is_file()]
        values = {f"{DATA}{path.name}": file_digest(path) for path in files}
        values.update({f"{DATA}{run.name}": run.digest for run in self.after})
        values.update(flat(self.cfg, without=WITHOUT_EFFECT))
        return RunIdentity(values, allow_changes=True)

    @property
    def record(self) -> Optional[Record]:
        """What the folder remembers of an earlier start."""
        return Record.read(self.folder)

    @property
    def digest(self) -> str:
        """A short checksum of the identity."""
        return text_digest(str(sorted(self.identity.values.items())))

    @property
    def finished(self) -> bool:
        record = self.record
        return record is not None and record.finished and not self.changes()

    def changes(self) -> List[str]:
        """A line for each reason why what the folder holds is not this training."""
        record = self.record
        if record is None:
            return []
        identity = self.identity
        saved = {
            name: value
            for name, value in record.identity.items()
            if name in identity.values or not name.startswith(DATA)
        }
        found = identity.check(saved)
        if not self.any_code and record.code != [code_digest()]:
            found.append(f"the code was {' + '.join(record.code)} and is {code_digest()}")
        return found

    def commands(self, root: Path = REPOSITORY) -> List[List[str]]:
        """The command lines of preparation and training, without the interpreter.

        Args:
            root: of the copy of the repository whose code runs.
        """
        inside = self.config_file.is_relative_to(REPOSITORY)
        config = self.config_file.relative_to(REPOSITORY) if inside else self.config_file
        gpus = ["--num-gpus", self.num_gpus] if self.num_gpus > 1 else []
        train = [Path("train_net.py"), "--config-file", config, *gpus, "--resume", *self.opts]
        return [
            [str(root / part) if isinstance(part, Path) else str(part) for part in command]
            for command in [*self.preparation.values(), train]
        ]

    def start(self, root: Path = REPOSITORY) -> None:
        """Starts the training, or goes on with it where the folder holds a part of the same one.

        Args:
            root: of the copy of the repository whose code runs.
        """
        if self.changes():
            shutil.rmtree(self.folder)
        record = self.record or Record(identity=self.identity.values)
        if record.code[-1:] != [code_digest()]:
            record.code.append(code_digest())
        record.finished = False
        record.write(self.folder)
        self._root = root
        there = [product.is_file() for product in self.preparation]
        self._commands = [c for c, skip in zip(self.commands(root), [*there, False]) if not skip]
        self._started = time.monotonic()
        self._next_process()

    def poll(self) -> bool:
        """Whether the training still runs.

        Raises:
            TrainingError: if it failed, with the last line that it printed.
        """
        code = self._process.poll()
        if code is None:
            return True
        if code == 0 and self._commands:
            self._next_process()
            return True
        self._note(finished=code == 0)
        if code:
            log = self.folder / PRINTED
            last = (log.read_text().strip().split("\n"))[-1]
            raise TrainingError(f"{self.name} failed with status {code}: {last} (see {log})")
        return False

    @property
    def running(self) -> bool:
        """Whether a process that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ends the training if it runs, which saves what it has done."""
        if self.running:
            self._process.terminate()
            self._process.wait()
            self._note(finished=False)

    def metrics(self) -> List[dict]:
        """The lines that the training has written so far."""
        return read_metrics(self.folder) if (self.folder / "metrics.json").is_file() else []

    def history(self) -> Dict[str, list]:
        """{network: [(step, {metric: value}), ...]} of all evaluations."""
        found = {network: {} for network in NETWORKS}
        for line in self.metrics():
            for network, evaluations in found.items():
                prefix = f"{network}/bbox/"
                values = {k[len(prefix) :]: v for k, v in line.items() if k.startswith(prefix)}
                if values:
                    evaluations[line["iteration"] + 1] = values
        return {network: sorted(e.items()) for network, e in found.items()}

    @property
    def steps(self) -> int:
        """Steps done of this training."""
        if self.changes():
            return 0
        # An evaluation is written after the line of a later step.
        return max((line["iteration"] + 1 for line in self.metrics()), default=0)

    def work(self, steps: int) -> float:
        """What so many steps cost, in labeled images; an unlabeled one costs about two."""
        cfg = self.cfg
        labeled = cfg.SOFT_TEACHER.LABELED_SHARE * cfg.SOLVER.IMS_PER_BATCH
        unlabeled = cfg.SOLVER.IMS_PER_BATCH - labeled
        return steps * labeled + max(steps - cfg.SOFT_TEACHER.BURN_IN, 0) * 2 * unlabeled

    @property
    def work_left(self) -> float:
        return self.work(self.cfg.SOLVER.MAX_ITER) - self.work(self.steps)

    def _next_process(self) -> None:
        paths = [str(self._root / "projects"), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONWARNINGS": "ignore",
            # Trainings side by side with several threads each crawl.
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, *self._commands.pop(0)]
        with open(self.folder / PRINTED, "a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _note(self, *, finished: bool) -> None:
        record = self.record
        record.finished = finished
        record.seconds += time.monotonic() - self._started
        record.write(self.folder)
