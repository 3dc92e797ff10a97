"""What could lower the floor itself: each on and off, and what it does to the losses."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from bench_measures import race, timed
from bench_parts import NOT_ON_A_CPU, measured
from bench_report import Row, spread
from bench_variants import Ours, Work, largest_change, make_work
from gpu_sections.job import Job, Rows

__all__ = ["compiled_rows", "rows"]

TITLE = "what could lower the floor, on beside off"


class Lever(NamedTuple):
    """A change of how a step computes."""

    name: str
    precision: str
    pull: Callable[[Ours, Work], None]  # changes a variant before its first step
    needs_gpu: bool = False


def rows(job: Job) -> Rows:
    half = partial(torch.autocast, job.device, dtype=torch.bfloat16)
    yield from _rows_of(
        job,
        Lever("teacher in bf16", "fp32", partial(_teach_in, half)),
        Lever("channels_last", "fp32", _channels_last),
        Lever("channels_last", "bf16", _channels_last),
        Lever("CUDA graph of the student's backbone", "fp32", _graphed, needs_gpu=True),
    )


def compiled_rows(job: Job) -> Rows:
    """torch.compile at one fixed size: a section of its own, because it takes its time."""
    # On a CPU the code it generates would be compiled for minutes; its tracing is tried there.
    backend = "inductor" if job.on_gpu else "eager"
    name = f"torch.compile of the student's backbone ({backend})"
    precisions = ("fp32", "bf16") if job.on_gpu else ("fp32",)
    pull = partial(_compiled, backend)
    yield from _rows_of(job, *(Lever(name, precision, pull) for precision in precisions))


def _rows_of(job: Job, *levers: Lever) -> Rows:
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
    seconds = race({"off": off.step, "on": on.step}, job.size.rounds, job.device)
    return {
        **spread("off / on", seconds["off"] / seconds["on"]),
        "on, s": spread("s", seconds["on"])["s"],
        "first step, s": first,
        # At the last step of both, which had the same samples and weights.
        "largest change of a loss, of their sum": largest_change(on.losses(), off.losses()),
    }


def _teach_in(context: Callable, ours: Ours, work: Work) -> None:
    """All uses that the step makes of the teacher inside a context."""
    teach = ours.model.family.teach

    def taught(*args):
        found = teach(*args)
        found.background_scores = context()(found.background_scores)
        return found

    ours.model.family.teach = taught
    ours.model._teach = context()(ours.model._teach)


def _compiled(backend: str, ours: Ours, work: Work) -> None:
    ours.model.student.backbone.compile(backend=backend, dynamic=False)


def _channels_last(ours: Ours, work: Work) -> None:
    ours.model.to(memory_format=torch.channels_last)


def _graphed(ours: Ours, work: Work) -> None:
    """Captures forward and backward at the padded size of these images."""
    student = ours.model.student
    images = student.preprocess_image(work.batch).tensor
    torch.cuda.make_graphed_callables(student.backbone, (images,))
