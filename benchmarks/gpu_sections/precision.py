"""Does a run stay finite in every precision, and are its losses those of float32?

Losses are compared at fixed weights, with the same samples, so that nothing but rounding moves
them; afterwards the weights learn, and the losses fall. One that is not finite is an error, as in
every run.
"""

from functools import cached_property

import torch
from bench_parts import NOT_ON_A_CPU, measured
from bench_report import Row
from bench_variants import Ours, Work, largest_change, make_work
from gpu_sections.job import Job, Rows, exact

__all__ = ["rows"]

STILL = "Soft Teacher with R-50-FPN, fixed weights"
LEARNING = "the same run, with weights that learn"
# Half of the distance from 1 to the next number, of what convolutions read.
ROUNDING = {"fp32": 2**-24, "fp32, TF32": 2**-11, "fp16": 2**-11, "bf16": 2**-8}
# Rounding of some fifty layers, and pseudo boxes that it moves across a threshold.
LAYERS = 16
# The losses of random weights are large: at 1e-3 they diverge.
LEARNING_RATE = 3e-5


class _Training:
    """One precision's, built when it is first asked for."""

    def __init__(self, job: Job, name: str, work: Work):
        self._job, self._name, self._work = job, name, work

    @cached_property
    def _ours(self) -> Ours:
        precision = self._name.partition(",")[0]
        job = self._job
        return Ours(job.scenario(job.size.batches[0], precision, job.size.checked_side), self._work)

    def still(self, reference: list[dict]) -> Row:
        """The row of steps without a learning rate; the first one's losses become the reference."""
        losses = self._losses()
        reference.extend([] if reference else losses)
        change = max(map(largest_change, losses, reference))
        bound = LAYERS * ROUNDING[self._name]
        return {
            **_sums(losses),
            "largest change of a loss, of their sum": change,
            "may be": bound,
            "holds": change <= bound,
        }

    def learning(self) -> Row:
        """The row of steps that change the weights."""
        for group in self._ours.loop.optimizer.param_groups:
            group["lr"] = LEARNING_RATE
        losses = self._losses()
        sums = _sums(losses)
        return {
            **sums,
            "scale of the loss": self._ours.loop.grad_scaler.get_scale(),
            "holds": sums["last sum"] <= sums["first sum"],
        }

    def _losses(self) -> list[dict]:
        """Of each of the next steps, by name."""
        exact()
        torch.backends.cudnn.allow_tf32 = "TF32" in self._name
        found = []
        for _ in range(self._job.size.steps):
            self._ours.step()
            found.append(self._ours.losses())
        return found


def rows(job: Job) -> Rows:
    batch = job.size.batches[0]
    work = make_work(job.scenario(batch, side=job.size.checked_side), job.photos(sum(batch[1:])))
    reference: list[dict] = []
    for name in ROUNDING:
        label = {"precision": name, "steps": job.size.steps}
        if "TF32" in name and not job.on_gpu:
            yield STILL, {**label, "holds": NOT_ON_A_CPU}
            yield LEARNING, {**label, "holds": NOT_ON_A_CPU}
            continue
        label["holds"] = False
        training = _Training(job, name, work)
        yield STILL, measured(label, lambda: training.still(reference))
        yield LEARNING, measured(label, training.learning)


def _sums(losses: list[dict]) -> Row:
    return {"first sum": losses[0]["total_loss"], "last sum": losses[-1]["total_loss"]}
