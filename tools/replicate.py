#!/usr/bin/env python
"""Run tables of the paper row by row and write the results beside the paper's numbers.

The tables "masks" and "dense" are of detectors that the paper does not report on, by the demo's
protocol.

Rows that need the same run share it. Finished runs are reused, interrupted ones resumed, and a run
that fails does not stop the others.
"""

import argparse
import logging
import shlex
import sys
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import torch
from replication.benchmark import Coco, Demo, Digits
from replication.plan import Plan
from replication.publish import publish, write_docs
from replication.results import collect
from replication.tables import OUR_TABLES, TABLES, find_table

from soft_teacher.commands.common import tool_parser
from soft_teacher.distributed.device import cores
from soft_teacher.runs.code_copy import copy_code
from soft_teacher.runs.queue import Queue, clock, say
from soft_teacher.utils.command_line import exit_status, make_output
from soft_teacher.utils.folders import held

BENCHMARKS = {
    "digits": lambda args: Digits(),
    "demo": lambda args: Demo(),
    "coco": lambda args: Coco(args.variant),
}
REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs" / "replication.md"
EPILOG = """
Examples:
  a small replication of Table 8 on the embedded digits
    replicate.py 8
  what Table 3 would take on COCO
    replicate.py 3 --dataset coco --num-gpus 8 --dry-run
  two rows of Table 8 with one seed
    replicate.py 8 --rows BG-T BG-S --seeds 0
  instance masks and cascades with the demo's images
    replicate.py masks --dataset demo
  single-stage detectors likewise
    replicate.py dense --dataset demo
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = tool_parser(__doc__, EPILOG)
    add = parser.add_argument
    add("tables", nargs="+", metavar="TABLE", help=f"of {', '.join([*TABLES, *OUR_TABLES])}")
    add("--dataset", choices=BENCHMARKS, default="digits")
    add(
        "--variant",
        choices=("paper", "reference"),
        default="paper",
        help="of COCO's configs: the paper's text, or the authors' released code",
    )
    add(
        "--seeds",
        type=int,
        nargs="+",
        metavar="S",
        help="seed S learns from fold S + 1; default: 0 1 2, on COCO the five folds "
        "for Table 3 and 0 for the others",
    )
    add("--rows", nargs="+", metavar="ROW", help="only these: names of rows, groups or runs")
    add("--num-gpus", type=positive, default=1, help="of each run; default: 1")
    add(
        "--jobs",
        type=positive,
        help="runs at the same time; default: one on GPUs, else one for each core",
    )
    add("--output", type=Path, default=Path("output/replication").absolute())
    changed = parser.add_mutually_exclusive_group()
    changed.add_argument(
        "--rerun", action="store_true", help="repeat runs of other code, config or data"
    )
    changed.add_argument(
        "--accept-older-code", action="store_true", help="reuse runs that differ in the code alone"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--dry-run", action="store_true", help="list what would run, with its commands"
    )
    action.add_argument(
        "--report-only", action="store_true", help="write the tables of what is finished"
    )
    add("--write-docs", action="store_true", help="write the tables to docs/replication.md")
    add(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        help="KEY VALUE ... of YAML's keys for every run, also of a LazyConfig",
    )
    return parser.parse_args(argv)


@exit_status
def main(argv=None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    plan = Plan(
        BENCHMARKS[args.dataset](args),
        [find_table(key) for key in dict.fromkeys(args.tables)],
        args.output,
        rows=args.rows,
        seeds=args.seeds,
        opts=args.opts,
        num_gpus=args.num_gpus,
        any_code=args.accept_older_code,
    )
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


def train(plan: Plan, args: argparse.Namespace) -> dict:
    """Trains what is missing; returns what failed."""
    make_output(plan.folder)
    with held(plan.folder, "--output") as warnings:
        for warning in warnings:
            say(warning)
        plan.benchmark.prepare(plan.runs)
        if not args.rerun:
            plan.check_reuse()
        home = copy_code(args.output / "code")
        jobs = args.jobs or (1 if torch.cuda.is_available() else cores())
        return Queue(plan.runs, jobs=jobs, home=home).train()


def show(plan: Plan) -> None:
    """Prints the state, the cost and the commands of each run."""
    spent, missing = 0.0, 0
    for run in plan.runs:
        record = run.record
        seconds = record.seconds if record else 0.0
        spent += seconds
        missing += not run.finished
        state = "finished" if run.finished else f"{run.steps} of {run.max_iter} steps"
        print(f"\n# {run.name}: {state}, {clock(seconds)} so far")
        for change in run.changes():
            print(f"# is a different run: {change}")
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
