"""What could lower the floor itself: each on and off, and what it does to the losses."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from bench_data_report import spread
from bench_step import race, timed
from bench_variants import Ours, Work, make_work
from gpu_sections.job import NOT_ON_A_CPU, Job, Row, Rows, measured

__all__ = ["Lever", "rows", "rows_of"]

TITLE = "what could lower the floor, on beside off"


@dataclass(frozen=True)
class Lever:
    """A change of how a training computes.

    Attributes:
        name: of its row.
        precision: of the training.
        pull: changes a variant for its work, before its first step.
        needs_gpu: whether there is no such thing on a CPU.
    """

    name: str
    precision: str
    pull: Callable[[Ours, Work], None]
    needs_gpu: bool = False


def rows(job: Job) -> Rows:
    half = partial(torch.autocast, job.device, dtype=torch.bfloat16)
    yield from rows_of(
        job,
        Lever("teacher in bf16", "fp32", partial(_teach_in, half)),
        Lever("channels_last", "fp32", _channels_last),
        Lever("channels_last", "bf16", _channels_last),
        Lever("CUDA graph of the student's backbone", "fp32", _graphed, needs_gpu=True),
    )


def rows_of(job: Job, *levers: Lever) -> Rows:
    """A row for each lever; all of them take the same images and weights."""
    batch = job.size.batches[0]
    work = make_work(job.scenario(batch), job.photos(sum(batch[1:])))
    for lever in levers:
        label = {"lever": lever.name, "precision": lever.precision}
        if lever.needs_gpu and not job.on_gpu:
            yield TITLE, {**label, "off / on": NOT_ON_A_CPU}
        else:
            yield TITLE, measured(label, lambda: _compare(job, lever, work))


def _compare(job: Job, lever: Lever, work: Work) -> Row:
    scenario = job.scenario(job.size.batches[0], lever.precision)
    off, on = (Ours(scenario, work) for _ in range(2))
    lever.pull(on, work)
    off.step()
    first = timed(on.step, job.device)
    seconds = race({"off": off, "on": on}, job.size.rounds, job.device)
    ratio = spread(seconds["off"] / seconds["on"])
    return {
        "off / on": ratio["median"],
        "from": ratio["min"],
        "to": ratio["max"],
        "on, s": spread(seconds["on"])["median"],
        "first step, s": first,
        "largest change of a loss, of their sum": _change_of_losses(off, on),
    }


def _change_of_losses(off: Ours, on: Ours) -> float:
    """At the last step of both, which had the same samples and weights."""
    before, after = (variant.storage.latest() for variant in (off, on))
    changes = [abs(after[name][0] - before[name][0]) for name in before if "loss" in name]
    return max(changes) / before["total_loss"][0]


def _teach_in(context: Callable, ours: Ours, work: Work) -> None:
    """All uses that the step makes of the teacher inside a context."""
    teach = ours.model.family.teach

    def taught(*args):
        found = teach(*args)
        found.background_scores = context()(found.background_scores)
        return found

    ours.model.family.teach = taught
    ours.model._teach = context()(ours.model._teach)


def _channels_last(ours: Ours, work: Work) -> None:
    ours.model.to(memory_format=torch.channels_last)


def _graphed(ours: Ours, work: Work) -> None:
    """Captures forward and backward at the padded size of these images."""
    student = ours.model.student
    images = student.preprocess_image(work.batch).tensor
    torch.cuda.make_graphed_callables(student.backbone, (images,))
