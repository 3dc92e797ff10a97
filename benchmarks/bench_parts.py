"""What a step costs beside the floor, where its time goes, and its host-device syncs."""

import copy
from collections.abc import Callable, Iterator

import torch
from bench_measures import WARM_UP, Clock, race
from bench_reads import reads
from bench_report import Row, spread
from bench_scenarios import Scenario
from bench_variants import VARIANTS, Ours, Work

from soft_teacher.engine.ema import ema_update
from soft_teacher.utils.errors import one_line

__all__ = ["NOT_ON_A_CPU", "PARTS", "ema_times", "measured", "parts", "step_rows"]

NOT_ON_A_CPU = "not on a CPU"
PARTS = (
    "student",
    "teacher",
    "jitter",
    "background scoring",
    "choice and transport of pseudo boxes",
    "optimizer",
    "EMA",
    "monitoring",
    "data wait",
    "the rest",
)


def measured(label: Row, measure: Callable[[], Row]) -> Row:
    """A row of figures, or of the reason why there are none."""
    try:
        return {**label, **measure()}
    except Exception as error:  # a GPU of little memory, a compiler that is missing
        return {**label, "did not run": one_line(error)}


def step_rows(
    scenario: Scenario,
    work: Work,
    rounds: int,
    label: Row,
    *,
    waits: bool = True,
    peak: Callable[[str], float] | None = None,
) -> Iterator[tuple[str, Row]]:
    """(title of a table, row) of all figures of a scenario.

    Args:
        label: begins each row.
        waits: whether to count host-device syncs.
        peak: GiB that a variant takes at most, by its name, on a CPU; on a GPU the peak of its
            tensors is measured here.
    """
    device, variants = scenario.device, {}
    row = measured(label, lambda: _costs(scenario, work, rounds, variants, peak))
    yield "step", row
    if "did not run" in row:
        return
    ours = variants["ours"]
    ema = ema_times(ours, rounds)
    found = {name: reads(v.step, device) for name, v in variants.items()} if waits else {}
    # Prefixes of files: each of them, each package, all.
    for origin in (*sorted(set().union(*found.values())), "detectron2/", "soft_teacher/", ""):
        counts = {
            name: sum(n for file, n in by_file.items() if file.startswith(origin))
            for name, by_file in found.items()
        }
        if waits:
            yield f"host-device syncs ({REPORTED[device]})", {
                **label,
                "in": origin or "all",
                **counts,
            }
    ms = parts(ours, rounds)
    yield "EMA", {
        **label,
        "ms": 1000 * spread("s", ema["foreach"])["s"],
        "% of a step": 100 * ms["EMA"] / sum(ms.values()),
        **spread("x state dict", ema["state dict"] / ema["foreach"]),
    }
    yield "ms of the parts of a step", {**label, **ms, "sum": sum(ms.values())}


REPORTED = {"cuda": "as CUDA reports them", "cpu": "calls that would on a GPU"}


def _costs(scenario: Scenario, work: Work, rounds: int, variants: dict, peak) -> Row:
    """Time and memory; fills ``variants`` with both, ready to step."""
    # Before anything is held here.
    memory = {name: peak(name) for name in VARIANTS if peak and scenario.device == "cpu"}
    for name, make in VARIANTS.items():
        if scenario.device == "cuda":
            torch.cuda.empty_cache()
            held = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        variants[name] = make(scenario, work)
        if scenario.device == "cuda":
            for _ in range(WARM_UP):
                variants[name].step()
            memory[name] = (torch.cuda.max_memory_allocated() - held) / 2**30
    seconds = race({name: v.step for name, v in variants.items()}, rounds, scenario.device)
    ours = spread("ours, s", seconds["ours"])["ours, s"]
    return {
        **spread("step / floor", seconds["ours"] / seconds["floor"]),
        "floor, s": spread("floor, s", seconds["floor"])["floor, s"],
        "ours, s": ours,
        "images a second": (scenario.labeled + scenario.unlabeled) / ours,
        "memory / floor": memory["ours"] / memory["floor"] if memory else NOT_ON_A_CPU,
        "GiB": memory["ours"] if memory else NOT_ON_A_CPU,
    }


def parts(ours: Ours, rounds: int) -> dict[str, float]:
    """Mean milliseconds of each of ``PARTS`` of our step, which is then of no other use."""
    clock, model = Clock(ours.device), ours.model
    clock.watch(ours, "step", "the rest")
    clock.watch(ours.loop, "_gradients", "student")
    clock.watch(ours.loop, "_update", "optimizer")
    clock.watch(model, "_teach", "teacher")
    teach = model.family.teach

    def watched(*args):
        seen = teach(*args)
        clock.watch(seen, "variances", "jitter")
        clock.watch(seen, "background_scores", "background scoring")
        return seen

    model.family.teach = watched

    class Labeler(type(model.pseudo_labeler)):
        def __call__(self, *args):
            with clock.part("choice and transport of pseudo boxes"):
                return super().__call__(*args)

    model.pseudo_labeler.__class__ = Labeler
    for hook in ours.hooks:
        clock.watch(hook, "after_step", "EMA" if hook is ours.ema else "monitoring")
    for _ in range(rounds):
        ours.step()
        waited = ours.storage.latest()["data_time"][0]
        clock.seconds["data wait"] += waited
        clock.seconds["the rest"] -= waited
    return {name: 1000 * clock.seconds[name] / rounds for name in PARTS}


def ema_times(ours: Ours, rounds: int) -> dict:
    """(rounds,) seconds of an update of the teacher: "foreach", ours, and by "state dict"."""
    student, teacher = (copy.deepcopy(ours.model.student) for _ in range(2))
    pairs = list(teacher.parameters()), list(student.parameters())
    contenders = {
        "foreach": lambda: ema_update(*pairs, 0.999),
        "state dict": lambda: state_dict_update(teacher, student, 0.999),
    }
    return race(contenders, rounds, ours.device)


@torch.no_grad()
def state_dict_update(teacher, student, momentum: float) -> None:
    """The usual way: a new state dict, tensor by tensor, loaded into the teacher."""
    ours, theirs = student.state_dict(), teacher.state_dict()
    updated = {k: momentum * v + (1 - momentum) * ours[k] for k, v in theirs.items()}
    teacher.load_state_dict(updated)
