"""What a step costs beside the floor, and its host-device syncs."""

from bench_parts import NOT_ON_A_CPU, step_rows
from bench_variants import make_work
from gpu_sections.job import Job, Rows

__all__ = ["rows"]


def rows(job: Job) -> Rows:
    for batch in job.size.batches:
        work = make_work(job.scenario(batch), job.photos(sum(batch[1:])))
        for precision in ("fp32", "fp16", "bf16"):
            scenario = job.scenario(batch, precision)
            label = {"images": scenario.name, "precision": precision}
            if precision != "fp32" and not job.on_gpu:
                yield "step", {**label, "step / floor": NOT_ON_A_CPU}
            else:
                waits = batch is job.size.batches[0]
                yield from step_rows(scenario, work, job.size.rounds, label, waits=waits)
