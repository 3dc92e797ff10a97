"""Do the loader's workers keep up with a step, and what do pinned and early copies save?"""

import time

from bench_data_report import spread
from bench_step import race
from bench_variants import GROUND_TRUTH, NUM_CLASSES, STEPS, Ours
from bench_variants import make_work as make_step
from bench_variants import mappers, random_boxes
from gpu_sections.copies import Copied
from gpu_sections.job import NOT_ON_A_CPU, Job, Rows
from numpy.random import default_rng

from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.dataset import StreamDataset
from soft_teacher.data.streams.loader import TwoStreamLoader
from soft_teacher.data.streams.order import StreamOrder
from soft_teacher.data.streams.schedule import BatchSchedule

__all__ = ["rows"]

IMAGES = 32
COPIES = {
    "neither": {},
    "pinned": {"pinned": True},
    "a step ahead": {"ahead": True},
    "pinned, a step ahead": {"pinned": True, "ahead": True},
}


def rows(job: Job) -> Rows:
    batch = job.size.batches[0]
    # The fastest step needs most images; on a CPU its precision changes nothing for the data.
    scenario = job.scenario(batch, "fp16" if job.on_gpu else "fp32")
    work = make_step(scenario, job.photos(sum(batch[1:])))
    variants = {}
    for name, how in COPIES.items():
        if how and not job.on_gpu:
            continue
        variants[name] = Ours(scenario, work)
        loop = variants[name].loop
        loop.data_loader = Copied(loop.data_loader, job.device, **how)
    seconds = {
        n: spread(s)["median"] for n, s in race(variants, job.size.rounds, job.device).items()
    }
    for name in COPIES:
        figures = {"s of a step": NOT_ON_A_CPU}
        if name in seconds:
            figures = {"s of a step": seconds[name], "x": seconds["neither"] / seconds[name]}
        yield f"copies to the device, {scenario.precision}", {"batches are": name, **figures}
    needed = sum(batch[1:]) / min(seconds.values())
    for workers in job.size.workers:
        speed = _images_a_second(job, scenario, workers)
        yield "images of both views from the loader's workers", {
            "workers of both streams": workers,
            "DATALOADER.NUM_WORKERS": workers // 2,
            "images a second": speed,
            "a step needs": needed,
            "times what it needs": speed / needed,
        }


def _images_a_second(job: Job, scenario, workers: int) -> float:
    """Of the training's loader, once its workers are busy."""
    images = scenario.labeled + scenario.unlabeled
    batches = iter(_loader(job, scenario, workers))
    next(batches)
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < job.size.loader_seconds or not count:
        next(batches)
        count += images
    return count / elapsed


def _loader(job: Job, scenario, workers: int) -> TwoStreamLoader:
    images = scenario.labeled + scenario.unlabeled
    schedule = BatchSchedule(
        world_size=1, batch_size=images, share=scenario.labeled / images, decay_steps=0,
        max_iter=STEPS, draw="global", burn_in=0, seed=0,
    )  # fmt: skip
    dicts = job.photos(IMAGES)
    one_view, two_views = mappers(scenario)
    streams = [
        StreamDataset(found, mapper, StreamOrder(len(found), seed=0, stream=number))
        for number, found, mapper in (
            (LABELED, [_labeled(d) for d in dicts], one_view),
            (UNLABELED, dicts, two_views),
        )
    ]
    return TwoStreamLoader(schedule, *streams, rank=0, num_workers=workers // 2)


def _labeled(dataset_dict: dict) -> dict:
    rng = default_rng(dataset_dict["image_id"])
    boxes = random_boxes(rng, (dataset_dict["height"], dataset_dict["width"]), GROUND_TRUTH)
    annotations = [
        {"bbox": box, "bbox_mode": 0, "category_id": int(rng.integers(NUM_CLASSES))}
        for box in boxes.tolist()
    ]
    return {**dataset_dict, "annotations": annotations}
