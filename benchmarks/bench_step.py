#!/usr/bin/env python
"""Benchmark of the training step: how far it is from the least that a teacher and a student cost.

The variants of ``bench_variants.py`` take turns on the same images; all figures are ratios within
one run. Prints the tables and writes them, with all figures, into the output folder.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import numpy as np
import torch
from bench_data import make_images
from bench_parts import ema_times, parts, reads
from bench_report import report
from bench_variants import VARIANTS, Scenario, make_work, seconds_of_views

from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "coco" / "paper"
PARTIAL = str(CONFIGS / "soft_teacher_R_50_FPN_partial_180k.yaml")
FULL = str(CONFIGS / "soft_teacher_R_50_FPN_full_720k.yaml")
WARM_UP = 2
ON_CPU = [
    Scenario("CPU, 320 px", PARTIAL, 320, 1, 4),
    Scenario("CPU, 320 px, narrow", PARTIAL, 320, 1, 4, narrow=True),
]
ON_GPU = [
    Scenario("GPU, 800 px, fp32, batch 5", PARTIAL, 800, 1, 4, device="cuda"),
    Scenario("GPU, 800 px, fp16, batch 5", PARTIAL, 800, 1, 4, precision="fp16", device="cuda"),
    Scenario("GPU, 800 px, fp32, batch 8", FULL, 800, 4, 4, device="cuda"),
    Scenario("GPU, 800 px, fp16, batch 8", FULL, 800, 4, 4, precision="fp16", device="cuda"),
]
SCENARIOS = {s.name: s for s in ON_CPU + ON_GPU}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="steps of each variant")
    names = [s.name for s in (ON_GPU if torch.cuda.is_available() else ON_CPU)]
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=names, metavar="NAME",
        help=f"of: {'; '.join(SCENARIOS)} (default: those of this machine's device)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench")
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.rounds < 1:
        raise ConfigError(f"--rounds must be at least 1, got {args.rounds}")
    if not torch.cuda.is_available() and any(SCENARIOS[n].device != "cpu" for n in args.scenarios):
        raise ConfigError("--scenarios: there is no GPU here, name those of the CPU")
    return args


def build(scenario: Scenario, names=tuple(VARIANTS)) -> dict:
    """Name -> variant, ready to step, on the same photographs."""
    with tempfile.TemporaryDirectory() as folder:
        dicts = make_images(Path(folder), scenario.labeled + scenario.unlabeled)
        work = make_work(scenario, dicts)
        views = seconds_of_views(scenario, dicts)
    return {name: VARIANTS[name](scenario, work) for name in names} | {"views": views}


def race(variants: dict, rounds: int, device: str) -> dict:
    """Let the variants take turns, the first one last in the next round.

    Returns:
        name -> (rounds,) seconds of a step.
    """
    names = list(variants)
    seconds = {name: [] for name in names}
    for number in range(WARM_UP + rounds):
        for name in names:
            elapsed = timed(variants[name].step, device)
            if number >= WARM_UP:
                seconds[name].append(elapsed)
        names.append(names.pop(0))
    return {name: np.array(values) for name, values in seconds.items()}


def timed(function, device: str) -> float:
    """Seconds until the device is done."""
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_memory(scenario: Scenario, name: str) -> float:
    """GiB that a process of its own takes at most while it makes some steps of a variant."""
    command = [sys.executable, "-W", "ignore", __file__, "--peak", name]
    done = subprocess.run(
        [*command, "--scenarios", scenario.name], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def print_peak(scenario: Scenario, name: str) -> None:
    """What :func:`peak_memory` reads."""
    variant = build(scenario, [name])[name]
    for _ in range(WARM_UP + 1):
        variant.step()
    on_gpu = scenario.device == "cuda"
    print(json.dumps(torch.cuda.max_memory_allocated() / 2**30 if on_gpu else peak_resident()))


def peak_resident() -> float:
    """GiB of memory that this process has held at most.

    Not ``resource.getrusage``: its figure starts at what the parent held.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 2**20


def measure(scenario: Scenario, rounds: int) -> dict:
    """All figures of a scenario; see :func:`bench_report.summarize`."""
    print(f"{scenario.name}: time", flush=True)
    variants = build(scenario)
    views = variants.pop("views")
    found = {"seconds": race(variants, rounds, scenario.device), "seconds_of_views": views}
    print(f"{scenario.name}: parts", flush=True)
    ours = variants["ours"]
    found["ema"] = ema_times(ours, rounds, lambda f: timed(f, scenario.device))
    found["reads"] = {name: reads(v, scenario.device) for name, v in variants.items()}
    found["parts"] = parts(ours, rounds, lambda: wait(scenario.device))
    variants.clear()
    print(f"{scenario.name}: memory", flush=True)
    found["memory"] = {name: peak_memory(scenario, name) for name in VARIANTS}
    return found


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    scenarios = [SCENARIOS[name] for name in args.scenarios]
    if args.peak:
        print_peak(scenarios[0], args.peak)
        return
    make_output(args.output)
    found = {scenario.name: measure(scenario, args.rounds) for scenario in scenarios}
    print(report(found, args.rounds, args.output))


if __name__ == "__main__":
    sys.exit(main())
