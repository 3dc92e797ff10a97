"""One start of a training up to its first batches, in a process of its own.

Prints one line of JSON; see :func:`measure`.
"""

import argparse
import json
import multiprocessing
import os
import time
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import torch

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.loading import loaded_once
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment.yaml_experiment import YamlExperiment

MEGABYTE = 1e6


def measure(experiment, steps: int) -> dict:
    """Starts as train_net.py does, but for the model, and takes ``steps`` batches.

    Returns:
        ``seconds`` and ``cpu_seconds`` to the first batch; ``step_cpu_ms`` of this process and its
        workers; memory in MB: ``before``, the ``peak``, ``after`` the steps (RSS), and of each
        worker then ``worker_own`` (USS) and ``worker_share`` (PSS, shared pages divided).
    """
    before = _memory()["Rss"]
    wall, cpu = time.perf_counter(), time.process_time()
    with loaded_once():
        experiment.check(eval_only=False)
        loader = build_two_stream_train_loader(experiment.cfg)
    batches = iter(loader)
    next(batches)
    found = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak": _memory(kinds="status")["VmHWM"],
    }
    workers = [child.pid for child in multiprocessing.active_children()]
    cpu = _cpu_seconds(workers)
    for _ in range(steps):
        next(batches)
    memory = [_memory(pid) for pid in workers]
    return {
        **found,
        "step_cpu_ms": (_cpu_seconds(workers) - cpu) * 1000 / steps,
        "before": before,
        "after": _memory()["Rss"],
        "worker_own": [m["Private_Clean"] + m["Private_Dirty"] for m in memory],
        "worker_share": [m["Pss"] for m in memory],
    }


def _memory(pid="self", kinds="smaps_rollup") -> dict:
    """Megabytes of a process, by kind."""
    lines = Path(f"/proc/{pid}/{kinds}").read_text().splitlines()
    fields = [line.split() for line in lines if line.endswith(" kB")]
    return {name[:-1]: int(kilobytes) * 1024 / MEGABYTE for name, kilobytes, _ in fields}


def _cpu_seconds(pids) -> float:
    """CPU time of this process and of others."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    torch.set_num_threads(1)
    experiment = YamlExperiment.load(args.config_file, args.opts)
    register_builtin()
    print(json.dumps(measure(experiment, args.steps)))


if __name__ == "__main__":
    main()
