#!/usr/bin/env python
"""The demo: a supervised baseline and Soft Teacher from the same few labeled images.

Generates the embedded digits dataset, trains both for the same number of steps, evaluates student
and teacher of each, prints one table and writes it with pictures. Finished runs are reused,
interrupted ones resumed.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from demo_report import report, summarize, write_pictures
from replication.queue import Queue, clock, say
from replication.run import REPOSITORY, Run

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.demo.data import digits_files, make_digits, make_split
from soft_teacher.utils.command_line import exit_status, make_output

LABELED_IMAGES = 20


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        metavar="S",
        help="run with these seeds; seed S learns from fold S + 1 of the labeled images",
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "output" / "demo")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the dataset")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for both runs"
    )
    return parser.parse_args(argv)


def make_runs(seed: int, folder: Path, opts) -> list[Run]:
    """The two runs of a seed; the config of the baseline names no unlabeled images."""
    split = f"fold{seed + 1}"
    labeled = ["SEED", seed, "DATASETS.TRAIN_LABELED", f"('digits_{split}_labeled',)"]
    unlabeled = ["DATASETS.TRAIN_UNLABELED", f"('digits_{split}_unlabeled', 'digits_unlabeled')"]
    return [
        Run(
            name,
            REPOSITORY / "configs" / "demo" / f"{name}.yaml",
            folder / name,
            [*labeled, *images, *opts],
            data_files=digits_files(split),
        )
        for name, images in (("supervised", []), ("soft_teacher", unlabeled))
    ]


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    started = time.monotonic()
    make_output(args.output)
    make_digits(say, args.data_seed)
    for seed in args.seeds:
        make_split(f"fold{seed + 1}", seed + 1, count=LABELED_IMAGES)
    register_builtin()
    results = {}
    for seed in args.seeds:
        folder = args.output / f"seed{seed}"
        runs = make_runs(seed, folder, args.opts)
        Queue(runs, jobs=len(runs), keep_going=False).train()
        results[seed] = summarize(*(run.history() for run in runs))
        write_pictures(runs, folder)
    report(results, args.output)
    print(f"\nfinished in {clock(time.monotonic() - started)}")


if __name__ == "__main__":
    sys.exit(main())
