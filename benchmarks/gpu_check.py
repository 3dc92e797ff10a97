#!/usr/bin/env python
"""Every question that needs a GPU, answered in 8 minutes without a network.

Each section is a process of its own with a limit in seconds, the longest last. Its results are in
results.json and results.md of the output folder as soon as they exist, its output in log.txt. The
exit status is 1 if a section is incomplete or a check fails.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import cv2
import torch
from bench_report import Tables, write
from gpu_report import failures, markdown
from gpu_requirements import check_versions
from gpu_sections import (
    data,
    demo,
    detections,
    device,
    evaluation,
    levers,
    precision,
    predictions,
    ranks,
    resume,
    step,
)
from gpu_sections.job import SIZES, Job, Rows
from section_process import DONE, run_section

from soft_teacher.utils.atomic import atomic_write
from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
# Seconds of the whole check.
TIME = 480.0
LOG = "log.txt"


class Section(NamedTuple):
    """A question, the seconds that its answer may take, and what answers it."""

    question: str
    limit: float
    rows: Callable[[Job], Rows]


SECTIONS = {
    "device": Section("What do the figures hold for?", 20, device.rows),
    "ranks": Section("How far do NCCL and SyncBatchNorm work?", 35, ranks.rows),
    "resume": Section("Is a killed run resumed exactly?", 45, resume.rows),
    "detections": Section("What does lower precision change?", 45, detections.rows),
    "evaluation": Section("How fast is an evaluation?", 45, evaluation.rows),
    "predictions": Section("How fast are predictions?", 45, predictions.rows),
    "data": Section("Do workers keep up, and what do early copies save?", 55, data.rows),
    "levers": Section("What could lower the floor?", 55, levers.rows),
    "demo": Section("Does the GPU make the demo's pseudo boxes?", 75, demo.rows),
    "compiled": Section("What does torch.compile save?", 80, levers.compiled_rows),
    "precision": Section("Is a run right in every precision?", 120, precision.rows),
    "step": Section("What is a step beside the floor, and where does it sync?", 120, step.rows),
}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--size", choices=SIZES, default="full", help="tiny shows that all runs, and no more"
    )
    parser.add_argument(
        "--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME",
        help=f"of: {', '.join(SECTIONS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=float, default=1.0, help="factor of all limits, for a slow GPU"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "gpu-check")
    args = parser.parse_args(argv)
    Number(above=0)("--patience", args.patience)
    return args


def check(args: argparse.Namespace) -> dict:
    """Runs the sections and keeps the files in the output folder up to date.

    Returns:
        the results, see :func:`gpu_report.markdown`.
    """
    results = {"device": args.device, "size": args.size, "sections": {}}
    for name in args.sections:
        results["sections"][name] = {
            "question": SECTIONS[name].question,
            "limit": SECTIONS[name].limit * args.patience,
            "status": "waits",
            "seconds": 0.0,
            "tables": {},
        }
    end = time.monotonic() + TIME * args.patience
    for name, section in results["sections"].items():
        print(f"{name}: {section['question']}", flush=True)
        section["limit"] = max(0.0, min(section["limit"], end - time.monotonic()))
        section["status"] = "runs"
        write(args.output, results, markdown(results))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            job = Job(args.device, SIZES[args.size], Path(folder))
            tables = job.folder / "tables.json"

            def update() -> None:
                found = json.loads(tables.read_text()) if tables.exists() else {}
                if found != section["tables"]:
                    section["tables"] = found
                    write(args.output, results, markdown(results))

            outcome = run_section(
                lambda: _answer(job, SECTIONS[name].rows, tables),
                limit=section["limit"],
                log=args.output / LOG,
                progress=update,
            )
            section["status"], section["seconds"] = outcome.status, outcome.seconds
            update()
        write(args.output, results, markdown(results))
        print(f"  {section['status']}, {section['seconds']:.0f} s", flush=True)
    return results


def _answer(job: Job, answer: Callable[[Job], Rows], path: Path) -> None:
    """Writes the tables anew with each row."""
    cv2.setNumThreads(0)  # sections fork, which a pool of threads would not survive
    if not job.on_gpu:
        torch.set_num_threads(1)
    tables: Tables = {}
    for title, row in answer(job):
        tables.setdefault(title, []).append(row)
        with atomic_write(str(path)) as file:
            json.dump(tables, file)


def check_device(args: argparse.Namespace) -> None:
    """Raises ConfigError if there is no GPU; asked in a fork, see :mod:`section_process`."""
    log = args.output / LOG
    found = run_section(lambda: sys.exit(not torch.cuda.is_available()), limit=60, log=log)
    if found.status != DONE:
        raise ConfigError("--device cuda: PyTorch finds no GPU, try --device cpu --size tiny")


@exit_status
def main(argv=None) -> int:
    args = parse_args(argv)
    check_versions(ROOT / "setup.cfg")
    make_output(args.output)
    (args.output / LOG).unlink(missing_ok=True)
    if args.device == "cuda":
        check_device(args)
    results = check(args)
    print("\n" + markdown(results))
    wrong = failures(results)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
