"""A run as a process of train_net.py, monitored through its files."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from soft_teacher.engine.identity import RunIdentity, flat
from soft_teacher.evaluation.evaluate import NETWORKS
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.settings import SETTINGS
from soft_teacher.monitoring.metrics_file import read_metrics
from soft_teacher.utils.errors import TrainingError

from .overrides import in_language_of
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
# Here nothing is compared in the place of the weights that a run starts from.
LAZY_WITHOUT_EFFECT = (
    "dataloader.evaluator",
    "train.checkpointer",
    "train.watch",
    *(
        path
        for key in WITHOUT_EFFECT
        if key in SETTINGS and key != "MODEL.WEIGHTS"
        for path in SETTINGS[key].paths
    ),
)
DATA = "data "
PRINTED = "stdout.txt"


@dataclass(eq=False)
class Run:
    """A config with overrides, trained in a folder of its own.

    Raises:
        ConfigError: for a mistake in the config.
    """

    name: str
    config_file: Path  # YAML or LazyConfig
    folder: Path  # OUTPUT_DIR
    opts: Sequence[str] = ()  # KEY VALUE ... overrides, of YAML's keys; then in its language
    _: KW_ONLY
    data_files: Sequence[Path] = ()  # they identify the data; missing ones are not compared
    num_gpus: int = 1
    any_code: bool = False  # accept a result of other code
    after: Sequence["Run"] = ()  # must be finished before this one starts
    # File -> the command line that makes it before the run, without the interpreter; its Paths are
    # relative to the repository, or absolute.
    preparation: Mapping[Path, Sequence] = field(default_factory=dict)

    def __post_init__(self):
        self.opts = in_language_of(
            str(self.config_file), [*map(str, self.opts), "OUTPUT_DIR", str(self.folder)]
        )
        self.experiment = load_experiment(str(self.config_file), self.opts)
        self.cfg = self.experiment.cfg
        self._process: subprocess.Popen | None = None
        self._commands: list[list[str]] = []
        self._root = REPOSITORY
        self._started = 0.0

    @property
    def identity(self) -> RunIdentity:
        """Everything but the code that decides the result, without missing data files."""
        files = [path for path in self.data_files if path.is_file()]
        values = {f"{DATA}{path.name}": file_digest(path) for path in files}
        for run in self.after:
            values[f"{DATA}{run.name}"] = text_digest(str(sorted(run.identity.values.items())))
        values.update(self.values)
        return RunIdentity(values, allow_changes=True)

    @property
    def values(self) -> dict:
        """What in the config decides the result."""
        if isinstance(self.experiment, LazyExperiment):
            cfg = OmegaConf.to_container(self.cfg, resolve=True)
            return flat(cfg, without=LAZY_WITHOUT_EFFECT)
        return flat(self.cfg, without=WITHOUT_EFFECT)

    @property
    def max_iter(self) -> int:
        return self.experiment["SOLVER.MAX_ITER"]

    @property
    def record(self) -> Record | None:
        """What the folder remembers of an earlier start."""
        return Record.read(self.folder)

    @property
    def finished(self) -> bool:
        record = self.record
        return record is not None and record.finished and not self.changes()

    def changes(self) -> list[str]:
        """A line for each reason why the folder holds a different run."""
        record = self.record
        if record is None:
            return []
        identity, saved = self.identity, record.identity
        missing = {k for k in saved if k.startswith(DATA) and k not in identity.values}
        found = identity.check({k: v for k, v in saved.items() if k not in missing})
        if not self.any_code and record.code != [code_digest()]:
            found.append(f"the code was {' + '.join(record.code)} and is {code_digest()}")
        return found

    def commands(self, root: Path = REPOSITORY) -> list[list[str]]:
        """The command lines of preparation and run, without the interpreter.

        Args:
            root: of the copy of the repository whose code runs.
        """
        config = self.config_file
        if config.is_relative_to(REPOSITORY):
            config = config.relative_to(REPOSITORY)
        gpus = ["--num-gpus", self.num_gpus] if self.num_gpus > 1 else []
        train = [Path("train_net.py"), "--config-file", config, *gpus, "--resume", *self.opts]
        return [
            [str(root / part) if isinstance(part, Path) else str(part) for part in command]
            for command in [*self.preparation.values(), train]
        ]

    def start(self, root: Path = REPOSITORY) -> None:
        """Starts the run, or resumes it; removes what a different one has left in the folder.

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
        """Whether the run has not finished yet.

        Raises:
            TrainingError: it failed; the message has the last line that it printed.
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
            last = log.read_text().strip().split("\n")[-1]
            raise TrainingError(f"{self.name} failed with status {code}: {last} (see {log})")
        return False

    @property
    def running(self) -> bool:
        """Whether a process that this object started is alive."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Terminates the process, if there is one; it saves what it has done."""
        if self.running:
            self._process.terminate()
            self._process.wait()
            self._note(finished=False)

    def metrics(self) -> list[dict]:
        """The lines that the run has written so far."""
        return read_metrics(self.folder) if (self.folder / "metrics.json").is_file() else []

    def history(self, task: str = "bbox") -> dict[str, list]:
        """{network: [(step, {metric: value}), ...]} of all evaluations.

        Args:
            task: "bbox" or, of masks, "segm".
        """
        found = {network: {} for network in NETWORKS}
        for line in self.metrics():
            for network, evaluations in found.items():
                prefix = f"{network}/{task}/"
                values = {k[len(prefix) :]: v for k, v in line.items() if k.startswith(prefix)}
                if values:
                    evaluations[line["iteration"] + 1] = values
        return {network: sorted(e.items()) for network, e in found.items()}

    @property
    def steps(self) -> int:
        """Steps done of this run."""
        if self.changes():
            return 0
        # An evaluation is written after the line of a later step.
        return max((line["iteration"] + 1 for line in self.metrics()), default=0)

    def work(self, steps: int) -> float:
        """Cost of so many steps in labeled images; an unlabeled image costs about two."""
        setting = self.experiment
        images = setting["SOLVER.IMS_PER_BATCH"]
        labeled = setting["SOFT_TEACHER.LABELED_SHARE"] * images
        after_burn_in = max(steps - setting["SOFT_TEACHER.BURN_IN"], 0)
        return steps * labeled + after_burn_in * 2 * (images - labeled)

    @property
    def work_left(self) -> float:
        return self.work(self.max_iter) - self.work(self.steps)

    def _next_process(self) -> None:
        paths = [str(self._root / "projects"), os.environ.get("PYTHONPATH")]
        path = os.pathsep.join(filter(None, paths))
        # Runs side by side with several threads each crawl.
        changes = {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **changes}
        command = [sys.executable, *self._commands.pop(0)]
        with open(self.folder / PRINTED, "a") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def _note(self, *, finished: bool) -> None:
        record = self.record
        record.finished = finished
        record.seconds += time.monotonic() - self._started
        record.write(self.folder)
