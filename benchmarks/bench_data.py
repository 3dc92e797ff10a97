#!/usr/bin/env python
"""Benchmark of the data: two-view samples per second of one worker, beside Detectron2's mappers.

The contenders of ``bench_data_contenders.py`` take turns over the same 640x480 JPEGs, on one
thread, with views of equal size. Prints the tables and writes them, with all figures, into the
output folder.
"""

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import cv2
import numpy as np
import torch
from bench_data_contenders import HEIGHT, SHORT_SIDES, WIDTH, contenders, profile
from bench_data_report import report, summarize

from soft_teacher.data.augmentation.policies import VARIANTS
from soft_teacher.demo.sources import PHOTOS, load_photo
from soft_teacher.utils.command_line import make_output
from soft_teacher.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
JPEG_QUALITY = 90
# Long enough to work from a warm cache as a worker does, short enough that all meet the same load.
TURN = 4


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="passes over the images")
    parser.add_argument("--images", type=int, default=56, help="how many JPEGs to make and read")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench-data")
    args = parser.parse_args(argv)
    for name in ("rounds", "images"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {getattr(args, name)}")
    return args


def make_images(folder: Path, count: int) -> list[dict]:
    """Dataset dicts of ``count`` JPEGs: largest 4:3 crops of photographs, shifted and mirrored."""
    rng = np.random.default_rng(0)
    dicts = []
    for i in range(count):
        photo = load_photo(PHOTOS[i % len(PHOTOS)])
        scale = min(photo.shape[1] / WIDTH, photo.shape[0] / HEIGHT)
        w, h = int(WIDTH * scale), int(HEIGHT * scale)
        y, x = rng.integers(photo.shape[0] - h + 1), rng.integers(photo.shape[1] - w + 1)
        crop = cv2.flip(photo[y : y + h, x : x + w, ::-1], int(rng.integers(-1, 2)))
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
        picture = cv2.resize(crop, (WIDTH, HEIGHT), interpolation=method)
        path = folder / f"{i:04d}.jpg"
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        dicts.append({"file_name": str(path), "image_id": i, "width": WIDTH, "height": HEIGHT})
    return dicts


def race(samplers: dict, dicts: list[dict], rounds: int, progress=lambda done: None) -> dict:
    """Let the contenders take turns of ``TURN`` images, all with the same seeds.

    Args:
        samplers: name -> function of a dataset dict.
        dicts: dataset dicts.
        rounds: passes over them, each with other seeds.
        progress: called with the number of finished rounds.

    Returns:
        name -> float array (rounds,), mean seconds per sample.
    """
    names = list(samplers)
    seconds = {name: np.zeros(rounds) for name in names}
    for name in names:
        timed(samplers[name], dicts[0], 0)
    for i in range(rounds):
        for start in range(0, len(dicts), TURN):
            names.append(names.pop(0))
            for name in names:
                for j, dataset_dict in enumerate(dicts[start : start + TURN], start):
                    seconds[name][i] += timed(samplers[name], dataset_dict, (i, j)) / len(dicts)
        progress(i + 1)
    return seconds


def timed(sampler, dataset_dict: dict, seed) -> float:
    """Seconds of one sample."""
    np.random.seed(seed)
    start = time.perf_counter()
    sampler(dataset_dict)
    return time.perf_counter() - start


def measure(dicts: list[dict], rounds: int) -> dict:
    """The figures of all short sides; see :func:`bench_data_report.summarize`."""
    seconds, parts = {}, {}
    for side in SHORT_SIDES:
        show = partial(show_rounds, side, rounds)
        seconds[side] = race(contenders(side), dicts, rounds, show)
        parts[side] = {variant: profile(variant, side, dicts, rounds) for variant in VARIANTS}
    return summarize(seconds, parts)


def show_rounds(side: int, total: int, done: int) -> None:
    print(f"  short side {side}: {done}/{total} rounds", flush=True)


def as_a_worker() -> None:
    """One thread, as in the training loader's workers."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def main(argv=None) -> int:
    args = parse_args(argv)
    make_output(args.output)
    as_a_worker()
    with tempfile.TemporaryDirectory() as folder:
        dicts = make_images(Path(folder), args.images)
        kilobytes = np.mean([os.path.getsize(d["file_name"]) / 1000 for d in dicts])
        print(f"{len(dicts)} JPEGs of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB on average", flush=True)
        results = measure(dicts, args.rounds)
    results["setup"] = {
        "images": args.images,
        "rounds": args.rounds,
        "kilobytes_per_image": round(float(kilobytes), 1),
    }
    print(report(results, args.output))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:
        sys.exit(f"error: {error}")
