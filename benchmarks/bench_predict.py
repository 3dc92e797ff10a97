#!/usr/bin/env python
"""Benchmark of predictions: images per second beside a loop over Detectron2's DefaultPredictor.

Both take turns on the same files, with the same weights, from decoding to detections on the CPU.
Prints the table and writes it, with all figures, into the output folder.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import cv2
import numpy as np
import torch
from bench_data import make_images
from bench_measures import race
from bench_report import Row, Tables, report, spread
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor

from soft_teacher.deploy import Predictor
from soft_teacher.experiment import SoftTeacherTrainer, yaml_config
from soft_teacher.model_zoo import get_config_file
from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import exit_status, make_output

ROOT = Path(__file__).resolve().parents[1]
# Name -> config of the model zoo, size of the images if it is not that of the photographs.
NETWORKS = {
    "demo": ("demo/soft_teacher.yaml", 128),
    "demo, masks": ("demo/mask_soft_teacher.yaml", 128),
    "R50": ("coco/paper/soft_teacher_R_50_FPN_partial_180k.yaml", None),
}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7, help="passes of each over the images")
    parser.add_argument("--images", type=int, default=32, help="how many files to make and read")
    parser.add_argument("--tta", action="store_true", help="ours with several views, too")
    parser.add_argument("--opts", nargs="*", default=[], help="overrides of the configs")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "bench-predict")
    args = parser.parse_args(argv)
    for name in ("rounds", "images"):
        Number(low=1, whole=True)(f"--{name}", getattr(args, name))
    return args


def make_files(folder: Path, count: int, side: int | None) -> list[str]:
    """JPEGs of photographs, made small if ``side`` is given."""
    files = [d["file_name"] for d in make_images(folder, count)]
    for file in files if side else ():
        cv2.imwrite(file, cv2.resize(cv2.imread(file), (side, side)))
    return files


def save_weights(cfg, path: Path) -> None:
    """Untrained weights: what is found does not matter, but how long it takes to look."""
    torch.manual_seed(0)
    torch.save({"model": SoftTeacherTrainer.build_model(cfg).state_dict()}, path)


def contenders(cfg, config: str, opts: list[str], files: list[str], weights: Path, *, tta: bool):
    """Functions that predict on all files: a loop over the stock predictor, and ours."""
    stock_cfg = get_cfg()
    soft_teacher.add_soft_teacher_config(stock_cfg)
    stock_cfg.merge_from_other_cfg(cfg)
    stock_cfg.MODEL.WEIGHTS = str(weights)
    stock = DefaultPredictor(stock_cfg)
    classes = [str(n) for n in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES)]
    names = ["ours", "ours, tta"] if tta else ["ours"]
    ours = {
        name: Predictor(config, weights, classes=classes, opts=opts, tta="tta" in name)
        for name in names
    }

    def loop() -> list[int]:
        return [len(stock(cv2.imread(file))["instances"].to("cpu")) for file in files]

    def stream(predictor: Predictor) -> list[int]:
        return [len(found.instances) for found in predictor.stream(files)]

    return {"DefaultPredictor": loop} | {name: partial(stream, p) for name, p in ours.items()}


def predicted(
    config: str,
    opts: list[str],
    files: list[str],
    *,
    folder: Path,
    rounds: int,
    device: str,
    tta: bool = False,
) -> Row:
    """Images per second of all, and ratios by round.

    Args:
        config: a name of the model zoo, with overrides ``opts``.
        files: images.
        folder: for weights.
        tta: ours with several views, too.
    """
    config, opts = get_config_file(config), ["MODEL.DEVICE", device, *opts]
    cfg = yaml_config.load_config(config, [*opts, "MODEL.WEIGHTS", ""])
    weights = folder / "model.pth"
    save_weights(cfg, weights)
    steps = contenders(cfg, config, opts, files, weights, tta=tta)
    seconds: dict[str, np.ndarray] = race(steps, rounds, device)
    row = {
        **{f"{key}/s": float(np.median(len(files) / seconds[key])) for key in steps},
        **spread("x DefaultPredictor", seconds["DefaultPredictor"] / seconds["ours"]),
    }
    if tta:
        row |= spread("s of tta / s of ours", seconds["ours, tta"] / seconds["ours"])
    return row


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    make_output(args.output)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tables: Tables = {"predictions": []}
    for name in args.networks:
        config, side = NETWORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            files = make_files(Path(folder), args.images, side)
            how = {"folder": Path(folder), "rounds": args.rounds, "device": device, "tta": args.tta}
            row = {"network": name, **predicted(config, args.opts, files, **how)}
            print(name, row, flush=True)
            tables["predictions"].append(row)
    setup = {"images": args.images, "rounds": args.rounds, "threads": torch.get_num_threads()}
    report(args.output, {**setup, "device": device}, tables)


if __name__ == "__main__":
    sys.exit(main())
