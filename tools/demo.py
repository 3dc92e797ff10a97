#!/usr/bin/env python
"""The demo: a supervised baseline and Soft Teacher from the same few labeled images.

Generates the embedded digits dataset, trains both for the same number of steps, evaluates student
and teacher of each, prints one table and writes it with pictures. What is finished is reused,
what was interrupted is resumed.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

from demo_report import report, summarize, write_pictures
from replication.queue import Queue, clock, say
from replication.run import Run

from soft_teacher.data.datasets.builtin import register_builtin
from soft_teacher.demo.data import digits_files, make_digits, make_split
from soft_teacher.utils.command_line import exit_status, make_output

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"supervised": "supervised.yaml", "soft_teacher": "soft_teacher.yaml"}
LABELED_IMAGES = 20


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        metavar="S",
        help="train with these seeds; seed S learns from fold S + 1 of the labeled images",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "demo")
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the dataset")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for both trainings"
    )
    return parser.parse_args(argv)


def make_data(seeds, data_seed: int) -> None:
    """The dataset under datasets/digits, and one split of its training images per seed."""
    make_digits(say, data_seed)
    for seed in seeds:
        make_split(split_of(seed), seed + 1, count=LABELED_IMAGES)
    register_builtin()


def split_of(seed: int) -> str:
    return f"fold{seed + 1}"


def make_runs(seed: int, folder: Path, opts) -> list:
    """The two trainings of a seed; the config of the baseline names no unlabeled images."""
    labeled, unlabeled = (f"digits_{split_of(seed)}_{part}" for part in ("labeled", "unlabeled"))
    labels = ["SEED", seed, "DATASETS.TRAIN_LABELED", f"('{labeled}',)"]
    images = ["DATASETS.TRAIN_UNLABELED", f"('{unlabeled}', 'digits_unlabeled')"]
    return [
        Run(
            name,
            ROOT / "configs" / "demo" / file,
            folder / name,
            [*labels, *(images if name == "soft_teacher" else []), *opts],
            data_files=digits_files(split_of(seed)),
        )
        for name, file in CONFIGS.items()
    ]


@exit_status
def main(argv=None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    started = time.monotonic()
    make_output(args.output)
    make_data(args.seeds, args.data_seed)
    results = {}
    for seed in args.seeds:
        runs = make_runs(seed, args.output / f"seed{seed}", args.opts)
        Queue(runs, jobs=len(runs), keep_going=False).train()
        results[seed] = summarize(*(run.history() for run in runs))
        write_pictures(runs, args.output / f"seed{seed}")
    report(results, args.output)
    print(f"\nfinished in {clock(time.monotonic() - started)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
