"""Do the loader's workers keep up with a step, and what do pinned and early copies save?"""

import time

import torch
from bench_measures import race
from bench_parts import NOT_ON_A_CPU
from bench_report import spread
from bench_scenarios import Scenario
from bench_variants import Ours, fixed_schedule, make_work, mappers, with_boxes
from gpu_sections.job import Job, Rows
from numpy.random import default_rng

from soft_teacher.data.roles import LABELED, UNLABELED
from soft_teacher.data.streams.dataset import StreamDataset
from soft_teacher.data.streams.loader import TwoStreamLoader
from soft_teacher.data.streams.order import StreamOrder

__all__ = ["Copied", "rows"]

IMAGES = 32
VIEWS = ("image", "weak_image")
COPIES = {
    "neither": {},
    "pinned": {"pinned": True},
    "a step ahead": {"ahead": True},
    "pinned, a step ahead": {"pinned": True, "ahead": True},
}


class Copied:
    """A loader's batches on their way to the device.

    A loader with a thread that pins, as PyTorch's has, takes no time of the step for it. So a batch
    is pinned once here, and this loader must give the same list of samples again and again.
    """

    def __init__(self, loader, device: str, *, pinned: bool = False, ahead: bool = False):
        """
        Args:
            loader: of batches; all its attributes are this one's, too.
            device: to copy to.
            pinned: whether the images are in memory that is not paged.
            ahead: copy them on a stream of their own, one step before.
        """
        self._loader, self._device = loader, device
        self._pinned, self._ahead = pinned, ahead
        self._pins: dict[int, list[dict]] = {}

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def __iter__(self):
        batches = map(self._pin, self._loader) if self._pinned else iter(self._loader)
        return self._copied_ahead(batches) if self._ahead else batches

    def _pin(self, batch: list[dict]) -> list[dict]:
        if id(batch) not in self._pins:
            self._pins[id(batch)] = _with_views(batch, torch.Tensor.pin_memory)
        return self._pins[id(batch)]

    def _copied_ahead(self, batches):
        stream = torch.cuda.Stream()

        def copy(batch):
            with torch.cuda.stream(stream):
                return _with_views(batch, lambda x: x.to(self._device, non_blocking=True))

        coming = copy(next(batches))
        for batch in batches:
            torch.cuda.current_stream().wait_stream(stream)
            ready, coming = coming, copy(batch)
            for sample in ready:
                for name in sample.keys() & VIEWS:
                    sample[name].record_stream(torch.cuda.current_stream())
            yield ready


def _with_views(batch: list[dict], change) -> list[dict]:
    return [{k: change(v) if k in VIEWS else v for k, v in x.items()} for x in batch]


def rows(job: Job) -> Rows:
    batch = job.size.batches[0]
    # The fastest step needs most images; on a CPU its precision changes nothing for the data.
    scenario = job.scenario(batch, "fp16" if job.on_gpu else "fp32")
    work = make_work(scenario, job.photos(sum(batch[1:])))
    steps = {}
    for name, how in COPIES.items():
        if not how or job.on_gpu:
            ours = Ours(scenario, work)
            ours.loop.data_loader = Copied(ours.loop.data_loader, job.device, **how)
            steps[name] = ours.step
    found = race(steps, job.size.rounds, job.device)
    seconds = {name: spread("s", values)["s"] for name, values in found.items()}
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


def _images_a_second(job: Job, scenario: Scenario, workers: int) -> float:
    """Of the loader of a run, once its workers are busy."""
    dicts = job.photos(IMAGES)
    labeled = [with_boxes(d, default_rng(d["image_id"])) for d in dicts]
    streams = [
        StreamDataset(found, mapper, StreamOrder(len(found), seed=0, stream=number))
        for number, found, mapper in zip((LABELED, UNLABELED), (labeled, dicts), mappers(scenario))
    ]
    schedule = fixed_schedule(scenario)
    batches = iter(TwoStreamLoader(schedule, *streams, rank=0, num_workers=workers // 2))
    next(batches)
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < job.size.loader_seconds or not count:
        count += len(next(batches))
    return count / elapsed
