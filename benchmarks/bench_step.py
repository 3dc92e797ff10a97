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
from functools import partial
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import torch
from bench_data import make_images
from bench_measures import WARM_UP, memory
from bench_parts import step_rows
from bench_report import Tables, report
from bench_scenarios import (
    CASCADE,
    CASCADE_MASK,
    FCOS,
    FULL,
    MASK,
    PARTIAL,
    RETINANET,
    Scenario,
)
from bench_variants import VARIANTS, Work, make_work, seconds_of_views

from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
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
OTHERS = {
    "Mask": MASK,
    "Cascade": CASCADE,
    "Cascade Mask": CASCADE_MASK,
    "RetinaNet": RETINANET,
    "FCOS": FCOS,
}
ON_REQUEST = [
    Scenario(f"CPU, 320 px{', narrow' * narrow}, {name}", config, 320, 1, 4, narrow=narrow)
    for name, config in OTHERS.items()
    for narrow in (False, True)
    # The keys that make a network narrow are YAML's.
    if not (narrow and config is FCOS)
]
SCENARIOS = {s.name: s for s in ON_CPU + ON_GPU + ON_REQUEST}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="steps of each variant")
    names = [s.name for s in (ON_GPU if torch.cuda.is_available() else ON_CPU)]
    parser.add_argument(
        "--scenarios", nargs="+", choices=SCENARIOS, default=names, metavar="NAME",
        help=f"of: {'; '.join(SCENARIOS)} (default: Faster R-CNN on this machine's device)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench")
    parser.add_argument("--peak", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    Number(low=1, whole=True)("--rounds", args.rounds)
    if not torch.cuda.is_available() and any(SCENARIOS[n].device != "cpu" for n in args.scenarios):
        raise ConfigError("--scenarios: there is no GPU here, name those of the CPU")
    return args


def work_of(scenario: Scenario) -> tuple[Work, float]:
    """The images of a step, and the seconds of one worker to make their views."""
    with tempfile.TemporaryDirectory() as folder:
        dicts = make_images(Path(folder), scenario.labeled + scenario.unlabeled)
        return make_work(scenario, dicts), seconds_of_views(scenario, dicts)


def peak_memory(scenario: Scenario, name: str) -> float:
    """GiB that a process of its own takes at most while it makes some steps of a variant."""
    command = [sys.executable, "-W", "ignore", __file__, "--peak", name]
    command += ["--scenarios", scenario.name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def print_peak(scenario: Scenario, name: str) -> None:
    """What :func:`peak_memory` reads."""
    variant = VARIANTS[name](scenario, work_of(scenario)[0])
    for _ in range(WARM_UP + 1):
        variant.step()
    print(peak_resident())


def peak_resident() -> float:
    """GiB of memory that this process has held at most."""
    return memory(kinds="status")["VmHWM"] * 1e6 / 2**30


def measure(scenario: Scenario, rounds: int, tables: Tables) -> None:
    """Adds the rows of a scenario."""
    label = {"scenario": scenario.name}
    work, seconds = work_of(scenario)
    peak = partial(peak_memory, scenario)
    for title, row in step_rows(scenario, work, rounds, label, peak=peak):
        print(f"{scenario.name}: {title}", flush=True)
        tables.setdefault(title, []).append(row)
    row = {**label, "s of one worker for the views of a step": seconds}
    tables.setdefault("data", []).append(row)


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    scenarios = [SCENARIOS[name] for name in args.scenarios]
    if args.peak:
        print_peak(scenarios[0], args.peak)
        return
    make_output(args.output)
    tables: Tables = {}
    for scenario in scenarios:
        measure(scenario, args.rounds, tables)
        # A scenario of full width takes ten minutes on a CPU.
        report(args.output, {"rounds": args.rounds}, tables)


if __name__ == "__main__":
    sys.exit(main())
