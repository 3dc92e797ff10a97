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
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import cv2
import numpy as np
import torch
from bench_data_contenders import HEIGHT, SHORT_SIDES, WIDTH, contenders, profile
from bench_measures import timed
from bench_report import Row, Tables, report, spread

from soft_teacher.data.augmentation.policies import VARIANTS
from soft_teacher.demo.sources import PHOTOS, load_photo
from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import exit_status, make_output

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
        Number(low=1, whole=True)(f"--{name}", getattr(args, name))
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


def race(samplers: dict, dicts: list[dict], rounds: int) -> dict[str, np.ndarray]:
    """Lets the contenders take turns of ``TURN`` images, all with the same seeds.

    Args:
        samplers: name -> function of a dataset dict.
        rounds: passes over the images, each with other seeds.

    Returns:
        name -> (rounds,) mean seconds per sample.
    """
    names = list(samplers)
    seconds = {name: np.zeros(rounds) for name in names}
    for name in names:
        samplers[name](dicts[0])
    for i in range(rounds):
        for start in range(0, len(dicts), TURN):
            names.append(names.pop(0))
            for name in names:
                for j, dataset_dict in enumerate(dicts[start : start + TURN], start):
                    np.random.seed((i, j))
                    seconds[name][i] += timed(lambda: samplers[name](dataset_dict)) / len(dicts)
    return seconds


def speed_row(side: int, variant: str, seconds: dict[str, np.ndarray]) -> Row:
    """Samples per second, and ratios by round, of one variant."""
    ours = seconds[variant]
    per_second = {f"{n}/s": 1 / seconds[n] for n in ("floor", "stock")} | {"ours/s": 1 / ours}
    return {
        "short side": side,
        "variant": variant,
        **{name: float(np.median(values)) for name, values in per_second.items()},
        **spread("x stock", seconds["stock"] / ours),
        **spread("% of floor", 100 * seconds["floor"] / ours),
    }


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    make_output(args.output)
    # One thread, as in the training loader's workers.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    tables: Tables = {"two-view samples": [], "ms of the parts of a sample": []}
    speeds, parts = tables.values()
    with tempfile.TemporaryDirectory() as folder:
        dicts = make_images(Path(folder), args.images)
        kilobytes = float(np.mean([os.path.getsize(d["file_name"]) / 1000 for d in dicts]))
        for side in SHORT_SIDES:
            print(f"short side {side}", flush=True)
            seconds = race(contenders(side), dicts, args.rounds)
            for variant in VARIANTS:
                ms = profile(variant, side, dicts, args.rounds)
                speeds.append(speed_row(side, variant, seconds))
                label = {"short side": side, "variant": variant}
                parts.append({**label, **ms, "sum": sum(ms.values())})
    setup = {"images": args.images, "rounds": args.rounds}
    report(args.output, {**setup, "kB of an image": round(kilobytes, 1)}, tables)


if __name__ == "__main__":
    sys.exit(main())
