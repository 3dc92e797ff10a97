"""Does a training stay finite in every precision, and are its losses those of float32?

Losses are compared at weights that stand still, with the same samples, so that nothing but
rounding moves them; afterwards the weights move.
"""

import math

import torch
from bench_variants import Ours, Work, make_work
from gpu_sections.job import NOT_ON_A_CPU, Job, Row, Rows, exact, measured

__all__ = ["rows"]

TITLE = "Soft Teacher with R-50-FPN, weights that stand still and then learn"
# Half of the distance from 1 to the next number, of what convolutions read.
ROUNDING = {"fp32": 2**-24, "fp32, TF32": 2**-11, "fp16": 2**-11, "bf16": 2**-8}
# Rounding of some fifty layers, and pseudo boxes that it moves across a threshold.
LAYERS = 16
LEARNING_RATE = 1e-3


def rows(job: Job) -> Rows:
    batch = job.size.batches[0]
    work = make_work(job.scenario(batch, side=job.size.checked_side), job.photos(sum(batch[1:])))
    reference: list[dict] = []
    for name in ROUNDING:
        label = {"precision": name, "steps": 2 * job.size.steps}
        if "TF32" in name and not job.on_gpu:
            yield TITLE, {**label, "holds": NOT_ON_A_CPU}
            continue
        row = measured({**label, "holds": False}, lambda: _trained(job, name, work, reference))
        yield TITLE, row


def _trained(job: Job, name: str, work: Work, reference: list[dict]) -> Row:
    """The row of a precision; the first one's losses become the reference."""
    exact()
    torch.backends.cudnn.allow_tf32 = "TF32" in name
    precision = name.partition(",")[0]
    scenario = job.scenario(job.size.batches[0], precision, job.size.checked_side)
    ours = Ours(scenario, work)
    still = _losses(ours, job.size.steps)
    for group in ours.loop.optimizer.param_groups:
        group["lr"] = LEARNING_RATE
    moving = _losses(ours, job.size.steps)
    reference.extend([] if reference else still)
    finite = all(math.isfinite(v) for losses in still + moving for v in losses.values())
    change = max(_change(*pair) for pair in zip(still, reference, strict=True))
    return {
        "finite": finite,
        "largest change of a loss, of their sum": change,
        "may be": LAYERS * ROUNDING[name],
        "sum at the first step": still[0]["total_loss"],
        "after steps that learn": moving[-1]["total_loss"],
        "scale of the loss": ours.loop.grad_scaler.get_scale(),
        "holds": finite and change <= LAYERS * ROUNDING[name],
    }


def _losses(ours: Ours, steps: int) -> list[dict]:
    found = []
    for _ in range(steps):
        ours.step()
        latest = ours.storage.latest()
        found.append({name: value for name, (value, _) in latest.items() if "loss" in name})
    return found


def _change(losses: dict, reference: dict) -> float:
    changes = [abs(losses[name] - reference[name]) for name in reference]
    return max(changes) / reference["total_loss"]
