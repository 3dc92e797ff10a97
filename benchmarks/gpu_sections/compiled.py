"""torch.compile of the student's backbone at one fixed size; a section, for it takes its time."""

from functools import partial

from bench_variants import Ours, Work
from gpu_sections.job import Job, Rows
from gpu_sections.levers import Lever, rows_of

__all__ = ["rows"]


def rows(job: Job) -> Rows:
    # On a CPU the code it generates would be compiled for minutes; its tracing is tried there.
    backend = "inductor" if job.on_gpu else "eager"
    name = f"torch.compile of the student's backbone ({backend})"
    precisions = ("fp32", "bf16") if job.on_gpu else ("fp32",)
    pull = partial(_compiled, backend)
    yield from rows_of(job, *(Lever(name, precision, pull) for precision in precisions))


def _compiled(backend: str, ours: Ours, work: Work) -> None:
    ours.model.student.backbone.compile(backend=backend, dynamic=False)
