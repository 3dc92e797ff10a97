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

from ..data.datasets.builtin import register_builtin
from ..demo.data import (
    DEMO_IMAGES,
    demo_datasets,
    demo_split,
    digits_files,
    make_digits,
    make_split,
)
from ..demo.report import report, summarize, write_pictures
from ..model_zoo import get_config_file
from ..runs.queue import Queue, clock, say
from ..runs.run import Run
from ..utils.command_line import exit_status, make_output


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
    parser.add_argument("--output", type=Path, default=Path("output/demo").absolute())
    parser.add_argument("--data-seed", type=int, default=0, help="seed of the dataset")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... for both runs"
    )
    return parser.parse_args(argv)


def make_runs(seed: int, folder: Path, opts) -> list[Run]:
    """The two runs of a seed; the config of the baseline names no unlabeled images."""
    return [
        Run(
            name,
            get_config_file(f"demo/{name}.yaml"),
            folder / name,
            ["SEED", seed, *demo_datasets(seed, unlabeled=name == "soft_teacher"), *opts],
            data_files=digits_files(demo_split(seed)),
        )
        for name in ("supervised", "soft_teacher")
    ]


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    started = time.monotonic()
    make_output(args.output)
    make_digits(say, args.data_seed)
    for seed in args.seeds:
        make_split(demo_split(seed), seed + 1, count=DEMO_IMAGES)
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
