"""Runs on several ranks, started as a user would start them and monitored from outside."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel
from training import CONFIGS, LAZY_OPTS, ROOT, YAML_OPTS, digest

from soft_teacher import ConfigError
from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.demo import small_resnet_fpn
from soft_teacher.distributed.heartbeat import SILENCE
from soft_teacher.distributed.launch import leave_group, run
from soft_teacher.distributed.sync_bn import synchronize_batch_norm
from soft_teacher.experiment import SoftTeacherTrainer, yaml_config

TORCHRUN = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run"]
# Never reached: the test ends the run.
ENDLESS = ["train.max_iter=100000", "train.log_period=1", "train.checkpointer.period=100000"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def train_net(folder, *opts: str, flags=(), launcher=()) -> list[str]:
    """The command that trains the demo's LazyConfig, made small.

    Args:
        folder: of the run.
        opts: overrides of the config.
        flags: of train_net.py.
        launcher: what stands before train_net.py; this Python if empty.
    """
    launcher = launcher or [sys.executable, "-W", "ignore"]
    config = ["--config-file", CONFIGS / "soft_teacher.py"]
    opts = [*LAZY_OPTS, *opts, f"train.output_dir={folder}"]
    return [str(word) for word in [*launcher, ROOT / "train_net.py", *config, *flags, *opts]]


def machine(number: int, port: int, processes: int = 1) -> list[str]:
    """Flags of one of two machines that are both this one."""
    return ["--num-gpus", processes, "--num-machines", 2, "--machine-rank", number,
            "--dist-url", f"tcp://127.0.0.1:{port}"]  # fmt: skip


class Job:
    """A command in the background. As a context it leaves nothing behind."""

    def __init__(self, command: list[str], output: Path):
        self.output = Path(output)
        self._known = set()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        paths = [
            str(ROOT / "projects"),
            str(ROOT / "tests/utils"),
            os.environ.get("PYTHONPATH", ""),
        ]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        with open(output, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error) -> None:
        self.ranks()
        for pid in [self.process.pid, *self._known]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def text(self) -> str:
        return self.output.read_text()

    def errors(self) -> list[str]:
        """The lines for the user."""
        return [line for line in self.text().splitlines() if line.startswith("error:")]

    def wait(self, timeout: float = 240) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s: {self.text()[-3000:]}")

    def wait_for_files(self, folder, *names: str, timeout: float = 240) -> None:
        deadline = time.monotonic() + timeout
        while not all((Path(folder) / name).is_file() for name in names):
            assert time.monotonic() < deadline, self.text()[-3000:]
            time.sleep(0.05)

    def ranks(self) -> list[int]:
        """Process ids of its ranks, by rank."""
        found = sorted(
            pid
            for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _parent(pid) == self.process.pid and "resource_tracker" not in _command(pid)
        )
        self._known.update(found)
        return found

    def left_behind(self) -> list[int]:
        """Those of the ranks that :meth:`ranks` ever returned that still exist."""
        return [pid for pid in self._known if _stat(pid)[:1] not in ([], ["Z"], ["X"])]


def wait_for_steps(job: Job, folder, steps: int = 3, timeout: float = 240) -> None:
    """Waits until a run has logged some steps."""
    deadline = time.monotonic() + timeout
    while len(logged(folder)) < steps:
        assert job.process.poll() is None, job.text()[-3000:]
        assert time.monotonic() < deadline, job.text()[-3000:]
        time.sleep(0.1)


def logged(folder) -> list[dict]:
    """metrics.json up to its last whole line."""
    path = Path(folder) / "metrics.json"
    lines = path.read_text().split("\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _stat(pid: int) -> list[str]:
    """State, parent and so on of a process; nothing if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


# --- what ranks do instead of training ----------------------------------------------------------


def run_on_two(main, folder: str) -> int:
    """``main`` on two ranks of this machine."""
    flags = {"num_gpus": 2, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    return run(main, Namespace(folder=folder, **flags))


def run_on_machine(main, folder: str, number: str, port: str) -> int:
    """``main`` on one of two machines of one rank each."""
    flags = {"num_gpus": 1, "num_machines": 2, "machine_rank": int(number)}
    return run(main, Namespace(folder=folder, dist_url=f"tcp://127.0.0.1:{port}", **flags))


def waiting(args) -> None:
    """Sleeps for an hour."""
    comm.synchronize()
    (Path(args.folder) / f"rank{comm.get_rank()}").touch()
    time.sleep(3600)


def keeping_the_lock(args) -> None:
    """Rank 1 calls a library that never returns and keeps the interpreter's lock."""
    comm.synchronize()
    (Path(args.folder) / f"rank{comm.get_rank()}").touch()
    if comm.get_rank() == 1:
        ctypes.PyDLL(None).sleep(3600)
    comm.synchronize()


def evaluating(args) -> None:
    """Rank 0 computes for longer than a rank may be silent, and the others wait for it."""
    end = time.monotonic() + SILENCE + 10
    while comm.is_main_process() and time.monotonic() < end:
        sum(range(1000))
    comm.synchronize()


def mistaken(args) -> None:
    comm.synchronize()
    if comm.get_rank() == 1:
        raise ConfigError("rank 1 has no data")
    comm.synchronize()


def lost_while_waiting(args) -> None:
    comm.synchronize()
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def deaf(args) -> None:
    """Ignores SIGTERM, and does not end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (Path(args.folder) / f"rank{comm.get_rank()}").touch()
    while True:
        time.sleep(0.1)


def saving(args) -> None:
    """Trains until a signal comes, as if a step took its time, then saves."""
    received = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: received.append(number))
    (Path(args.folder) / f"rank{comm.get_rank()}").touch()
    while not received:
        time.sleep(0.1)
    time.sleep(1)
    (Path(args.folder) / f"saved{comm.get_rank()}").touch()
    comm.synchronize()
    raise SystemExit(128 + received[0])


def backbone_on_rank(folder: str) -> None:
    """Forward and backward of a backbone on this rank's images, dealt in several ways."""
    torch.set_num_threads(1)
    folder, rank = Path(folder), comm.get_rank()
    state, images, deals, settings = torch.load(folder / "start.pth")
    found = []
    for counts in deals:
        model = torch.nn.Module()
        model.student = torch.nn.Module()
        model.student.backbone = small_resnet_fpn(norm="BN", **settings)
        model.student.backbone.load_state_dict(state)
        backbone = synchronize_batch_norm(model).student.backbone
        ddp = DistributedDataParallel(backbone)
        levels = ddp(images.split(counts)[rank])
        sum(level.exp().sum() for level in levels.values()).backward()
        found.append(
            {
                "levels": {name: level.detach() for name, level in levels.items()},
                "gradients": {name: p.grad for name, p in backbone.named_parameters()},
                "buffers": dict(backbone.named_buffers()),
            }
        )
    torch.save(found, folder / f"rank{rank}.pth")


def train_yaml_on_rank(folder: str, opts: list[str]) -> None:
    """Trains, and notes what this rank ends with."""
    torch.set_num_threads(1)
    register_builtin()
    opts = [*YAML_OPTS, "OUTPUT_DIR", folder, *opts]
    trainer = SoftTeacherTrainer(yaml_config.load_config(str(CONFIGS / "soft_teacher.yaml"), opts))
    trainer.resume_or_load(resume=False)
    trainer.train()
    model = trainer.soft_teacher
    found = {
        "student": digest(model.student),
        "teacher": digest(model.teacher),
        "synchronized": sum(isinstance(m, NaiveSyncBatchNorm) for m in model.student.modules()),
        "scalars": {k: v for k, (v, _) in trainer.storage.latest().items()},
    }
    torch.save(found, Path(folder) / f"rank{comm.get_rank()}.pth")
    leave_group()
