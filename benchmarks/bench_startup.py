#!/usr/bin/env python
"""Benchmark of a run's start: seconds and memory until its first batch, by size of the data.

Makes folders that look like COCO at several sizes and starts the paper's partial and full setting
on each, with boxes alone and with masks, in a fresh process, without the model. Prints a table and
writes all figures to startup.json in the output folder. Needs Linux, and half a GB of disk for the
size of COCO.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import torch
from bench_measures import memory
from bench_report import Row, report
from bench_startup_data import FOLD, PERCENT, make_coco

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.data.datasets.loading import loaded_once
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment.yaml_experiment import YamlExperiment
from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "coco" / "paper"
PARTIAL = ("soft_teacher_R_50_FPN_partial_180k.yaml", ("train2017",))
FULL = ("soft_teacher_R_50_FPN_full_720k.yaml", ("train2017", "unlabeled2017"))
# Config, the folders whose images it trains on, and whether it learns masks.
SETTINGS = {
    "10 %": (*PARTIAL, False),
    "10 %, masks": (*PARTIAL, True),
    "full": (*FULL, False),
    "full, masks": (*FULL, True),
}
# The batch of both settings, and views as tiny as the images: what is measured is the rest.
OPTS = {
    "DATASETS.SPLIT.FAMILY": "without_replacement",
    "DATASETS.SPLIT.PERCENT": PERCENT,
    "DATASETS.SPLIT.FOLD": FOLD,
    "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": 48,
    "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": 80,
    "SOLVER.IMS_PER_BATCH": 40,
    "MODEL.DEVICE": "cpu",
}
SMAPS = Path("/proc/self/smaps_rollup")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--scales", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="shares of COCO's images"
    )
    parser.add_argument("--workers", type=int, default=2, help="of each of the two streams")
    parser.add_argument("--steps", type=int, default=100, help="batches to take after the first")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench")
    parser.add_argument("--setting", choices=SETTINGS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ("workers", "steps"):
        Number(low=1, whole=True)(f"--{name}", getattr(args, name))
    for scale in args.scales:
        Number(above=0)("--scales", scale)
    if not SMAPS.exists():
        raise ConfigError(f"this needs {SMAPS}, which Linux has since 4.14")
    return args


def start(setting: str, workers: int, steps: int) -> Row:
    """Starts as train_net.py does, but for the model, and takes ``steps`` batches.

    Returns:
        seconds and CPU seconds to the first batch; CPU time of a step, of this process and its
        workers; memory in MB before, at the peak, and after the steps (RSS), and the largest of a
        worker then without (USS) and with its share of common pages (PSS); MB of the two streams'
        records, which are among the common pages.
    """
    config, _, masks = SETTINGS[setting]
    opts = {**OPTS, "DATALOADER.NUM_WORKERS": workers, "MODEL.MASK_ON": masks}
    experiment = YamlExperiment.load(
        str(CONFIGS / config), [str(word) for pair in opts.items() for word in pair]
    )
    register_builtin()
    before = memory()["Rss"]
    wall, cpu = time.perf_counter(), time.process_time()
    with loaded_once(masks=masks):
        experiment.check(eval_only=False)
        loader = build_two_stream_train_loader(experiment.cfg)
    batches = iter(loader)
    next(batches)
    found = {"seconds": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}
    peak = memory(kinds="status")["VmHWM"]
    processes = [child.pid for child in multiprocessing.active_children()]
    cpu = _cpu_seconds(processes)
    for _ in range(steps):
        next(batches)
    children = [memory(pid) for pid in processes]
    streams = loader._streams.values()
    return {
        **found,
        "CPU ms a step": (_cpu_seconds(processes) - cpu) * 1000 / steps,
        "MB before": before,
        "MB peak": peak,
        "MB after": memory()["Rss"],
        "worker's own MB": max(m["Private_Clean"] + m["Private_Dirty"] for m in children),
        "worker's MB, pages shared": max(m["Pss"] for m in children),
        "streams' MB": sum(len(pickle.dumps(r)) for s in streams for r in s.dicts) / 1e6,
    }


def _cpu_seconds(pids) -> float:
    """CPU time of this process and of others."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure(scale: float, args: argparse.Namespace) -> list[Row]:
    """All settings at one size, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {scale:g} of COCO", flush=True)
        images = make_coco(Path(folder), scale)
        megabytes = sum(f.stat().st_size for f in Path(folder).glob("coco/annotations/*")) / 1e6
        environment = {**os.environ, "DETECTRON2_DATASETS": folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__, "--workers", str(args.workers)]
        command += ["--steps", str(args.steps), "--setting"]
        rows = []
        for setting, (_, folders, _) in SETTINGS.items():
            print(f"starting {setting} of it", flush=True)
            done = subprocess.run(
                [*command, setting], env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            total = sum(images[name] for name in folders)
            each = {"CPU ms per 1,000 images": found["CPU s"] * 1e6 / total}
            case = {"setting": setting, "images": total, "MB of JSON": megabytes}
            rows.append({**case, **found, **each})
        return rows


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    if args.setting:
        torch.set_num_threads(1)
        print(json.dumps(start(args.setting, args.workers, args.steps)))
        return
    make_output(args.output)
    rows = [row for scale in args.scales for row in measure(scale, args)]
    rows.sort(key=lambda row: row["setting"])
    setup = {"workers": args.workers, "steps": args.steps}
    report(args.output, setup, {"start": rows}, name="startup")


if __name__ == "__main__":
    sys.exit(main())
