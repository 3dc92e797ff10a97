"""The demo's first steps on the CPU, each repeated on the GPU from the same weights.

Two runs would soon learn different things, because every rounding changes their next samples. So
the GPU's model takes the CPU's weights before each step.
"""

import statistics

import torch
from bench_parts import NOT_ON_A_CPU
from detectron2.utils.events import EventStorage
from gpu_sections.boxes import kept
from gpu_sections.digits import demo_config, make_demo_data
from gpu_sections.job import Job, Rows, exact
from torch.overrides import TorchFunctionMode

from soft_teacher.experiment import SoftTeacherTrainer
from soft_teacher.modeling import SoftTeacher

__all__ = ["SamePermutations", "rows"]

TITLE = "the demo's first steps, GPU beside CPU"
SAME_BOX = 0.99  # IoU
LOSS_TOLERANCE, SHARE_OF_BOXES = 1e-3, 0.99


class SamePermutations(TorchFunctionMode):
    """Permutations from the CPU's generator: Detectron2 samples boxes with the device's own."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is not torch.randperm:
            return func(*args, **kwargs)
        device = kwargs.pop("device", "cpu")
        return func(*args, **kwargs).to(device)


class _Mirror:
    """Repeats every forward pass of a training model on another device."""

    def __init__(self, model: SoftTeacher, other: SoftTeacher):
        self.model, self.other = model, other.train()
        self.losses: list[float] = []
        self.kept: list[float] = []
        self.boxes = 0
        self._seen: list = []
        for network in (model, other):
            network.observers.append(self._seen.append)
        model.register_forward_pre_hook(self._repeat)
        model.register_forward_hook(self._compare)

    def _repeat(self, _, args) -> None:
        self.other.load_state_dict(self.model.state_dict())
        self._seen.clear()
        with torch.random.fork_rng(), EventStorage(), torch.no_grad(), SamePermutations():
            self._repeated = {k: float(v) for k, v in self.other(*args).items()}

    def _compare(self, _, args, losses) -> None:
        total = sum(map(float, losses.values()))
        changes = [abs(self._repeated[k] - float(v)) for k, v in losses.items()]
        self.losses.append(max(changes) / total)
        theirs, ours = (view.labels for view in self._seen)
        for kind in ("classification", "regression"):
            expected, found = getattr(ours, kind), getattr(theirs, kind)
            self.boxes += sum(map(len, expected))
            for a, b in zip(expected, found, strict=True):
                self.kept += kept(a, b, iou=SAME_BOX) + kept(b, a, iou=SAME_BOX)


def rows(job: Job) -> Rows:
    exact()
    make_demo_data(job)
    steps = job.size.demo_steps
    torch.manual_seed(0)
    trainer = SoftTeacherTrainer(demo_config(job, "cpu", "cpu", steps))
    other = SoftTeacher(demo_config(job, "other", job.device, steps)).to(job.device)
    mirror = _Mirror(trainer.soft_teacher, other)
    trainer.train()
    same = statistics.fmean(mirror.kept) if mirror.kept else 0.0
    loss = statistics.median(mirror.losses)
    yield TITLE, {
        "steps": len(mirror.losses),
        "pseudo boxes": mirror.boxes,
        "the same on both": same,
        "change of a loss, of their sum: median": loss,
        "largest": max(mirror.losses),
        "holds": loss <= LOSS_TOLERANCE and same >= SHARE_OF_BOXES,
    }
    # The same run on the GPU by itself: its losses fall as those on the CPU do.
    torch.manual_seed(0)
    alone = SoftTeacherTrainer(demo_config(job, "alone", job.device, steps))
    alone.train()
    yield "sum of the losses, mean of the last fifth of the steps, each device by itself", {
        "CPU": _last_fifth(trainer.storage),
        "GPU": _last_fifth(alone.storage) if job.on_gpu else NOT_ON_A_CPU,
    }


def _last_fifth(storage: EventStorage) -> float:
    values = [value for value, _ in storage.history("total_loss").values()]
    return statistics.fmean(values[-max(1, len(values) // 5) :])
