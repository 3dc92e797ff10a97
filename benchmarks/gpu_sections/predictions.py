"""How fast predictions are, from files to detections, beside a loop over the stock predictor."""

from bench_parts import measured
from bench_predict import NETWORKS, make_files, predicted
from gpu_sections.job import Job, Rows

__all__ = ["rows"]


def rows(job: Job) -> Rows:
    config, side = NETWORKS["demo" if job.size.narrow else "R50"]
    files = make_files(job.folder, job.size.images, side)
    run = {"folder": job.folder, "rounds": job.size.rounds, "device": job.device}
    yield "predictions, images a second", measured({}, lambda: predicted(config, [], files, **run))
