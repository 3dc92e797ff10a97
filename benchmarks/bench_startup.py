#!/usr/bin/env python
"""Benchmark of a training's start: seconds and memory until its first batch, by size of the data.

Makes folders that look like COCO at several sizes and starts the paper's partial and full setting
on each, in a fresh process, without the model. Prints a table and writes all figures to
startup.json in the output folder. Needs Linux, and half a GB of disk for the size of COCO.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from bench_data_report import machine
from bench_startup_data import FOLD, PERCENT, make_coco
from tabulate import tabulate

from soft_teacher.utils.command_line import make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "coco" / "paper"
# Config, and the folders whose images it trains on.
SETTINGS = {
    "10 %": ("soft_teacher_R_50_FPN_partial_180k.yaml", ("train2017",)),
    "full": ("soft_teacher_R_50_FPN_full_720k.yaml", ("train2017", "unlabeled2017")),
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
    args = parser.parse_args(argv)
    for name in ("workers", "steps"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if min(args.scales) <= 0:
        raise ConfigError(f"--scales must be positive, got {min(args.scales):g}")
    if not SMAPS.exists():
        raise ConfigError(f"this needs {SMAPS}, which Linux has since 4.14")
    return args


def run_case(root: Path, setting: str, workers: int, steps: int) -> dict:
    """The figures of one start, see :func:`bench_startup_case.measure`.

    Args:
        root: $DETECTRON2_DATASETS.
        setting: of ``SETTINGS``.
        workers: of each stream.
        steps: batches to take.
    """
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "bench_startup_case.py")]
    command += ["--config-file", str(CONFIGS / SETTINGS[setting][0]), "--steps", str(steps)]
    opts = {**OPTS, "DATALOADER.NUM_WORKERS": workers}
    command += [str(word) for pair in opts.items() for word in pair]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(scale: float, workers: int, steps: int) -> list[dict]:
    """Both settings at one size."""
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {scale:g} of COCO", flush=True)
        images = make_coco(Path(folder), scale)
        megabytes = sum(f.stat().st_size for f in Path(folder).glob("coco/annotations/*")) / 1e6
        found = []
        for setting, (_, folders) in SETTINGS.items():
            print(f"starting {setting} of it", flush=True)
            total = sum(images[name] for name in folders)
            case = {"setting": setting, "images": total, "json_mb": megabytes}
            found.append({**case, **run_case(Path(folder), setting, workers, steps)})
    return found


def table(cases: list[dict]) -> str:
    """A line for each start."""
    headers = ["setting", "images", "seconds", "CPU s", "CPU ms per 1,000 images"]
    headers += ["CPU ms a step", "MB before", "MB peak", "MB after", "worker's own MB"]
    rows = [
        [
            case["setting"],
            f"{case['images']:,}",
            f"{case['seconds']:.1f}",
            f"{case['cpu_seconds']:.1f}",
            f"{case['cpu_seconds'] * 1e6 / case['images']:.0f}",
            f"{case['step_cpu_ms']:.0f}",
            *(f"{case[key]:.0f}" for key in ("before", "peak", "after")),
            f"{max(case['worker_own']):.0f}",
        ]
        for case in sorted(cases, key=lambda case: case["setting"])
    ]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def main(argv=None) -> int:
    args = parse_args(argv)
    make_output(args.output)
    cases = [case for s in args.scales for case in measure(s, args.workers, args.steps)]
    setup = {"workers": args.workers, "steps": args.steps}
    results = {"setup": setup, "cases": cases, "machine": machine()}
    (args.output / "startup.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table(cases))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"error: {error}")
