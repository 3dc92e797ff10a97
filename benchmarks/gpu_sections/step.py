"""What a step costs beside the least that it can, and who waits for the device meanwhile."""

from collections.abc import Callable

import torch
from bench_data_report import spread
from bench_parts import ema_times, parts, reads
from bench_step import WARM_UP, race, timed, wait
from bench_variants import VARIANTS, Scenario, Work, make_work
from gpu_sections.job import NOT_ON_A_CPU, Job, Row, Rows, measured

__all__ = ["rows"]

PRECISIONS = ("fp32", "fp16", "bf16")


def rows(job: Job) -> Rows:
    for batch in job.size.batches:
        work = make_work(job.scenario(batch), job.photos(sum(batch[1:])))
        for precision in PRECISIONS:
            scenario = job.scenario(batch, precision)
            label = {"images": scenario.name, "precision": precision}
            if precision != "fp32" and not job.on_gpu:
                yield "step", {**label, "step / floor": NOT_ON_A_CPU}
                continue
            yield from _measure(job, scenario, work, label)


def _measure(job: Job, scenario: Scenario, work: Work, label: Row) -> Rows:
    variants: dict = {}
    row = measured(label, lambda: _costs(job, scenario, work, variants))
    yield "step", row
    if "did not run" in row:
        return
    ours = variants["ours"]
    ema = ema_times(ours, job.size.rounds, lambda f: timed(f, job.device))
    found = {name: reads(variant, job.device) for name, variant in variants.items()}
    if scenario.labeled == job.size.batches[0][1]:
        for origin in sorted(set().union(*found.values())):
            counts = {name: counts.get(origin, 0) for name, counts in found.items()}
            yield _waits_title(job), {**label, "origin": origin, **counts}
    ms = parts(ours, job.size.rounds, lambda: wait(job.device))
    yield "EMA", {
        **label,
        "ms": 1000 * spread(ema["foreach"])["median"],
        "% of a step": 100 * ms["EMA"] / sum(ms.values()),
        "x state dict": spread(ema["state dict"] / ema["foreach"])["median"],
    }
    yield "ms of the parts of a step", {**label, **ms}


def _costs(job: Job, scenario: Scenario, work: Work, variants: dict) -> Row:
    """Times and memory; fills ``variants`` with both, ready to step."""
    memory = {}
    for name, make in VARIANTS.items():
        variants[name], memory[name] = _with_peak(job, lambda: make(scenario, work))
    seconds = race(variants, job.size.rounds, job.device)
    ratio = spread(seconds["ours"] / seconds["floor"])
    median = {name: spread(values)["median"] for name, values in seconds.items()}
    return {
        "step / floor": ratio["median"],
        "from": ratio["min"],
        "to": ratio["max"],
        "floor, s": median["floor"],
        "ours, s": median["ours"],
        "images a second": (scenario.labeled + scenario.unlabeled) / median["ours"],
        "memory / floor": memory["ours"] / memory["floor"] if job.on_gpu else NOT_ON_A_CPU,
        "GiB": memory["ours"] if job.on_gpu else NOT_ON_A_CPU,
    }


def _with_peak(job: Job, make: Callable) -> tuple[object, float]:
    """A variant that has made its first steps, and the GiB that tensors took for it at most."""
    if not job.on_gpu:
        return make(), 0.0
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    variant = make()
    for _ in range(WARM_UP):
        variant.step()
    return variant, (torch.cuda.max_memory_allocated() - held) / 2**30


def _waits_title(job: Job) -> str:
    kind = "CUDA's own report" if job.on_gpu else "calls that would on a GPU"
    return f"where a step makes the host wait for the device ({kind})"
