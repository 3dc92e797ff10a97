#!/usr/bin/env python
"""Run tables of the paper row by row and write what was measured beside the paper's numbers.

Trainings that several rows share are run once. What is finished is reused, what was interrupted is
gone on with, and a training that fails does not hold up the others.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import torch
from replication.benchmark import Coco, Digits
from replication.code_copy import copy_code
from replication.plan import Plan
from replication.publish import publish, write_docs
from replication.queue import Queue, clock, say
from replication.results import collect
from replication.tables import TABLES, find_table

from soft_teacher.distributed.device import cores
from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.folders import held

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "replication.md"
EPILOG = """
Examples:
  a small replication of Table 8 on the embedded digits
    replicate.py 8
  how good is each share of labels, and what would it take on COCO?
    replicate.py 3 --dataset coco --num-gpus 8 --dry-run
  two rows of Table 8 with one seed
    replicate.py 8 --rows BG-T BG-S --seeds 0
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--dataset", choices=("digits", "coco"), default="digits")
    parser.add_argument(
        "--variant",
        choices=("paper", "reference"),
        default="paper",
        help="of COCO's configs: the paper's text, or the authors' released code",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="S",
        help="seed S learns from fold S + 1; default: 0 1 2 on the digits, on COCO the five folds "
        "for Table 3 and 0 for the others",
    )
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW", help="these alone: names of rows, groups or runs"
    )
    parser.add_argument("--num-gpus", type=positive, default=1, help="of each training; default: 1")
    parser.add_argument(
        "--jobs",
        type=positive,
        help="trainings at the same time; default: one on GPUs, else one for each core",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "replication")
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument(
        "--rerun", action="store_true", help="train again what other code, config or data made"
    )
    changed.add_argument(
        "--accept-older-code", action="store_true", help="reuse what only other code has made"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--dry-run", action="store_true", help="list what would run, with its commands"
    )
    action.add_argument(
        "--report-only", action="store_true", help="write the tables of what is finished"
    )
    parser.add_argument(
        "--write-docs", action="store_true", help=f"write the tables to {DOCS.relative_to(ROOT)}"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for every training"
    )
    return parser.parse_args(argv)


@exit_status
def main(argv=None) -> int:
    """Trains what is missing and writes the tables."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    plan = make_plan(args)
    if args.dry_run:
        show(plan)
        return 0
    failed = {}
    if args.report_only:
        plan.check_reuse()
    else:
        failed = train(plan, args)
    results = [collect(plan, table) for table in plan.rows]
    for path in publish(results, plan.folder):
        say(f"written: {path}")
    if args.write_docs:
        write_docs(results, args.dataset, DOCS)
        say(f"written: {DOCS}")
    for message in failed.values():
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def make_plan(args: argparse.Namespace) -> Plan:
    return Plan(
        Digits() if args.dataset == "digits" else Coco(args.variant),
        [find_table(key) for key in dict.fromkeys(args.tables)],
        args.output,
        rows=args.rows,
        seeds=args.seeds,
        opts=args.opts,
        num_gpus=args.num_gpus,
        any_code=args.accept_older_code,
    )


def train(plan: Plan, args: argparse.Namespace) -> dict:
    """Trains what is missing; returns what failed."""
    make_output(plan.folder)
    with held(plan.folder, "--output") as warnings:
        for warning in warnings:
            say(warning)
        plan.benchmark.prepare(plan.runs)
        if not args.rerun:
            plan.check_reuse()
        root = copy_code(args.output / "code")
        return Queue(plan.runs, jobs=args.jobs or default_jobs(), root=root).train()


def default_jobs() -> int:
    return 1 if torch.cuda.is_available() else cores()


def show(plan: Plan) -> None:
    """Prints the state, the cost and the commands of each run."""
    spent, missing = 0.0, 0
    for run in plan.runs:
        record = run.record
        seconds = record.seconds if record else 0.0
        spent += seconds
        missing += not run.finished
        state = "finished" if run.finished else f"{run.steps} of {run.cfg.SOLVER.MAX_ITER} steps"
        print(f"\n# {run.name}: {state}, {clock(seconds)} so far")
        for change in run.changes():
            print(f"# is another training: {change}")
        for command in run.commands():
            print(shlex.join(["python", *command]))
    print(f"\n{len(plan.runs)} runs, {missing} to train, {clock(spent)} so far")


def positive(text: str) -> int:
    """A number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
