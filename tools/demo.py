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

from demo_report import report, summarize, write_pictures
from demo_runs import Run, clock, train_together

from soft_teacher.data.builtin import dataset_root, register_builtin
from soft_teacher.data.digits import DigitsSpec, generate
from soft_teacher.data.split_manifest import write_manifest
from soft_teacher.data.splits import coco_image_ids, without_replacement_split
from soft_teacher.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"supervised": "supervised.yaml", "soft_teacher": "soft_teacher.yaml"}
LABELED_IMAGES = 20
SPEC = DigitsSpec(contrast=0.6, clutter=2, digit_size=(20, 56), min_objects=2, max_objects=5)


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
    root = dataset_root() / "digits"
    print(f"dataset: {root}", flush=True)
    spec = DigitsSpec(**{**SPEC.to_dict(), "seed": data_seed})
    files = generate(root, spec, progress=show_images)
    ids = coco_image_ids(files["train"], family="without_replacement")
    for seed in seeds:
        split = without_replacement_split(
            ids, count=LABELED_IMAGES, fold=seed + 1, source="digits_train"
        )
        write_manifest(split, root / "splits" / f"fold{seed + 1}.json")
    register_builtin()


def show_images(done: int, total: int) -> None:
    if done % 500 == 0 or done == total:
        print(f"  {done}/{total} images", flush=True)


def main(argv=None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    started = time.monotonic()
    make_data(args.seeds, args.data_seed)
    results = {}
    for seed in args.seeds:
        runs = [
            Run(
                name, ROOT / "configs" / "demo" / file, args.output / f"seed{seed}", seed, args.opts
            )
            for name, file in CONFIGS.items()
        ]
        train_together(runs, ROOT / "train_net.py")
        results[seed] = summarize(*(run.history() for run in runs))
        write_pictures(runs, args.output / f"seed{seed}")
    report(results, args.output)
    print(f"\nfinished in {clock(time.monotonic() - started)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"error: {error}")
