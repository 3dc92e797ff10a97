"""The input of the sections."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_data import make_images
from bench_report import Row
from bench_scenarios import FULL, PARTIAL, Scenario

__all__ = ["SIZES", "Job", "Rows", "Size", "exact"]

Rows = Iterator[tuple[str, Row]]


@dataclass(frozen=True)
class Size:
    """Of the work."""

    short_side: int  # pixels of the views whose speed is measured
    checked_side: int  # of those of the precision section
    narrow: bool  # R-50-FPN with an eighth of the channels
    batches: tuple[tuple[str, int, int], ...]  # config, labeled and unlabeled images of a step
    rounds: int  # steps that a time is the median of
    steps: int  # of a run in each precision
    demo_steps: int  # of the demo on both devices
    demo_images: int  # of a step of the demo
    trained_steps: int  # of the detector whose detections are compared
    digits: tuple[int, int, int]  # images of the demo for training, unlabeled, and to evaluate
    resume_steps: tuple[int, int, int]  # between checkpoints, until the kill, in all
    workers: tuple[int, ...]  # of the loader, over both streams
    loader_seconds: float  # that each number of workers is measured for
    images: int  # that are evaluated


SIZES = {
    "full": Size(
        short_side=800,
        checked_side=512,
        narrow=False,
        batches=((PARTIAL, 1, 4), (FULL, 4, 4)),
        rounds=4,
        steps=20,
        demo_steps=100,
        demo_images=10,
        trained_steps=250,
        digits=(100, 100, 60),
        resume_steps=(6, 15, 24),
        workers=(4, 8, 16),
        loader_seconds=4.0,
        images=64,
    ),
    "tiny": Size(
        short_side=64,
        checked_side=64,
        narrow=True,
        batches=((PARTIAL, 1, 1),),
        rounds=1,
        steps=1,
        demo_steps=3,
        demo_images=4,
        trained_steps=2,
        digits=(24, 8, 2),
        resume_steps=(2, 3, 4),
        workers=(2,),
        loader_seconds=0.1,
        images=2,
    ),
}


@dataclass(frozen=True)
class Job:
    """The input of a section.

    Attributes:
        device: "cuda" or "cpu".
        size: of its work.
        folder: for its temporary files.
    """

    device: str
    size: Size
    folder: Path

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def scenario(self, batch: tuple, precision: str = "fp32", side: int | None = None) -> Scenario:
        """One of ``size.batches`` as the step benchmark knows it."""
        config, labeled, unlabeled = batch
        return Scenario(
            f"{labeled} + {unlabeled}",
            config,
            side or self.size.short_side,
            labeled,
            unlabeled,
            narrow=self.size.narrow,
            precision=precision,
            device=self.device,
        )

    def photos(self, count: int) -> list[dict]:
        """Dataset dicts of JPEGs in a folder that no other process writes to."""
        folder = self.folder / f"photos_{os.getpid()}"
        folder.mkdir(exist_ok=True)
        return make_images(folder, count)


def exact() -> None:
    """Full float32 arithmetic: PyTorch computes convolutions with TF32's 10 bits by default."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
