#!/usr/bin/env python
"""One training step of a COCO config: a labeled image and, if wanted, an unlabeled one.

Pixels and weights are random, so that the teacher labels nothing. Prints seconds and peak memory of
the forward and of the backward pass, and losses. On a GPU the first step also tunes its kernels.
"""

import argparse
import json
import sys
import time
from contextlib import contextmanager

import soft_teacher  # noqa: F401  isort: skip  first: names what is missing

import numpy as np
import torch
from bench_measures import wait
from bench_step import peak_resident
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from soft_teacher.experiment.entry import load_experiment
from soft_teacher.utils.checks import Number
from soft_teacher.utils.command_line import add_config_arguments, exit_status

OBJECTS = 7  # COCO's mean


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"))
    parser.add_argument("--unlabeled", action="store_true", help="add an unlabeled image")
    add_config_arguments(parser)
    args = parser.parse_args(argv)
    for side in args.size:
        Number(low=64, whole=True)("--size", side)
    return args


def labeled_image(size: tuple[int, int], *, classes: int, stuff: int, seed: int = 0) -> dict:
    """A random image with elliptic objects.

    Args:
        classes, stuff: of objects and of semantic maps.
    """
    rng = np.random.default_rng(seed)
    h, w = size
    sides = rng.uniform(0.05, 0.4, (OBJECTS, 2)) * (w, h)
    corners = rng.uniform(0, 1, (OBJECTS, 2)) * ((w, h) - sides)
    boxes = np.hstack([corners, corners + sides])
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
    instances.gt_classes = torch.as_tensor(rng.integers(classes, size=OBJECTS))
    y, x = np.mgrid[:h, :w]
    inside = [
        ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1
        for x0, y0, x1, y1 in boxes
    ]
    instances.gt_masks = BitMasks(np.stack(inside))
    pixels = torch.as_tensor(rng.integers(256, size=(3, h, w), dtype=np.uint8))
    sample = {"image": pixels, "height": h, "width": w, "instances": instances}
    if stuff:
        cells = rng.integers(stuff, size=(-(-h // 50), -(-w // 50)), dtype=np.uint8)
        sample["sem_seg"] = torch.as_tensor(np.kron(cells, np.ones((50, 50), np.uint8))[:h, :w])
    return sample


def unlabeled_image(size: tuple[int, int], seed: int = 1) -> dict:
    """A random image whose two views are the same."""
    rng = np.random.default_rng(seed)
    pixels = torch.as_tensor(rng.integers(256, size=(3, *size), dtype=np.uint8))
    views = {"image": pixels, "weak_image": pixels, "weak_to_strong": torch.eye(3)}
    return {**views, "seed": seed, "height": size[0], "width": size[1]}


@contextmanager
def measured(name: str, found: dict, device: str):
    """Adds the seconds of what runs inside, those of the CPU, and the memory held until then."""
    wait(device)
    start, cpu = time.perf_counter(), time.process_time()
    yield
    wait(device)
    on_gpu = device == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else peak_resident()
    found[name] = {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
        "peak GiB": round(peak, 2),
    }
    print(f"{name}: {found[name]}", flush=True)


@exit_status
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: dict = {}
    experiment = load_experiment(args.config_file, args.opts)
    device = torch.device(experiment["MODEL.DEVICE"]).type
    with measured("model", found, device):
        model = experiment.build_model().train()
    family, student = model.family, model.student
    found["parameters"] = sum(p.numel() for p in student.parameters())
    classes, stuff = family.num_classes(student), family.semantic_classes(student)
    size = tuple(args.size)
    batch = [labeled_image(size, classes=classes, stuff=stuff)]
    batch += [unlabeled_image(size)] * args.unlabeled
    with EventStorage():
        with measured("forward", found, device):
            losses = model(batch)
            # Those of absent images are zeros that lead to every parameter.
            losses = {k: v for k, v in losses.items() if args.unlabeled or k.startswith("sup/")}
        with measured("backward", found, device):
            sum(losses.values()).backward()
    grads = [p.grad for p in student.parameters() if p.requires_grad]
    found["gradients"] = f"{sum(g is not None for g in grads)} of {len(grads)}"
    found["losses"] = {name: round(loss.item(), 4) for name, loss in losses.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
