"""How large the work of the sections is, and what they have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_data import make_images
from bench_step import FULL, PARTIAL
from bench_variants import Scenario

from soft_teacher.utils.errors import one_line

__all__ = ["NOT_ON_A_CPU", "SIZES", "Job", "Row", "Rows", "Size", "exact", "measured"]

NOT_ON_A_CPU = "not on a CPU"
Row = dict[str, object]
Rows = Iterator[tuple[str, Row]]


@dataclass(frozen=True)
class Size:
    """Of the work.

    Attributes:
        short_side: of the views whose speed is measured, pixels.
        checked_side: of the views of the precision section.
        narrow: R-50-FPN with an eighth of the channels.
        batches: (config, labeled images, unlabeled images) of a step.
        rounds: steps that a time is the median of.
        steps: of a training in each precision.
        demo_steps: of the demo on both devices.
        demo_images: of a step of the demo.
        trained_steps: of the detector whose detections are compared.
        digits: images of the demo for training, unlabeled, and to evaluate.
        resume_steps: (between checkpoints, until the kill, in all).
        workers: of the loader, over both streams.
        loader_seconds: that each number of workers is watched for.
        images: that are evaluated.
    """

    short_side: int
    checked_side: int
    narrow: bool
    batches: tuple[tuple[str, int, int], ...]
    rounds: int
    steps: int
    demo_steps: int
    demo_images: int
    trained_steps: int
    digits: tuple[int, int, int]
    resume_steps: tuple[int, int, int]
    workers: tuple[int, ...]
    loader_seconds: float
    images: int


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
    """What a section gets.

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
            name=f"{labeled} + {unlabeled}",
            config=config,
            short_side=side or self.size.short_side,
            labeled=labeled,
            unlabeled=unlabeled,
            narrow=self.size.narrow,
            precision=precision,
            device=self.device,
        )

    def photos(self, count: int) -> list[dict]:
        """Dataset dicts of JPEGs in ``folder``."""
        folder = self.folder / "photos"
        folder.mkdir(exist_ok=True)
        return make_images(folder, count)


def exact() -> None:
    """Full float32 arithmetic: PyTorch computes convolutions with TF32's 10 bits by itself."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def measured(label: Row, measure: Callable[[], Row]) -> Row:
    """A row of figures, or of the reason why there are none; the section goes on."""
    try:
        return {**label, **measure()}
    except Exception as error:  # a GPU of little memory, a compiler that is missing
        return {**label, "did not run": one_line(error)}
