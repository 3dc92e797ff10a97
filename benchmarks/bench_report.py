"""The step benchmark's figures: ratios per round, tables, and the machine they hold for."""

import json
from pathlib import Path

import torch
from bench_data_report import machine, spread, with_range
from tabulate import tabulate


def summarize(found: dict) -> dict:
    """The content of results.json, but for "rounds".

    Args:
        found: scenario -> "seconds" (variant -> (rounds,)), "parts" (part -> milliseconds),
            "memory" (variant -> GiB), "ema" (way -> (rounds,)), "reads" (variant -> file ->
            times), "seconds_of_views".

    Returns:
        ``step_over_floor`` (median of the rounds) and ``memory_over_floor``, scenario -> ratio;
        ``scenarios`` with all figures; ``machine``.
    """
    scenarios = {name: _figures(figures) for name, figures in found.items()}
    return {
        "step_over_floor": {n: s["step_over_floor"]["median"] for n, s in scenarios.items()},
        "memory_over_floor": {n: s["memory_over_floor"] for n, s in scenarios.items()},
        "scenarios": scenarios,
        "machine": machine() | {"gpu": gpu()},
    }


def _figures(found: dict) -> dict:
    seconds, memory, ema = found["seconds"], found["memory"], found["ema"]
    step = float(sum(found["parts"].values())) / 1000
    return {
        "step_over_floor": spread(seconds["ours"] / seconds["floor"]),
        "memory_over_floor": memory["ours"] / memory["floor"],
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "memory_gib": memory,
        "parts_ms": found["parts"],
        "ema_share_of_step": found["parts"]["EMA"] / 1000 / step,
        "ema_times_state_dict": spread(ema["state dict"] / ema["foreach"]),
        "reads": found["reads"],
        "seconds_of_views": found["seconds_of_views"],
    }


def gpu() -> str:
    """Name of the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def report(found: dict, rounds: int, folder: Path) -> str:
    """Write results.json and results.md into ``folder``; return the text of the latter."""
    results = {"rounds": rounds, **summarize(found)}
    scenarios = results["scenarios"]
    tables = [_ratios(scenarios), _parts(scenarios), _reads(scenarios), _conditions(results)]
    text = "\n\n".join(tables) + "\n"
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "results.md").write_text(text)
    return text


def _ratios(scenarios: dict) -> str:
    headers = ["", "step / floor", "floor s", "ours s", "memory / floor", "GiB"]
    headers += ["EMA, % of step", "EMA, x state dict", "s of one worker for the views"]
    rows = [
        [
            name,
            with_range(s["step_over_floor"], "{:.3f}"),
            f"{s['seconds']['floor']['median']:.3f}",
            f"{s['seconds']['ours']['median']:.3f}",
            f"{s['memory_over_floor']:.3f}",
            f"{s['memory_gib']['ours']:.2f}",
            f"{s['ema_share_of_step']:.2%}",
            with_range(s["ema_times_state_dict"], "{:.1f}"),
            f"{s['seconds_of_views']:.3f}",
        ]
        for name, s in scenarios.items()
    ]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def _parts(scenarios: dict) -> str:
    columns = [s["parts_ms"] for s in scenarios.values()]
    rows = [[name, *(ms[name] for ms in columns)] for name in columns[0]]
    rows.append(["sum", *(sum(ms.values()) for ms in columns)])
    return tabulate(rows, headers=["ms per step", *scenarios], tablefmt="github", floatfmt=".1f")


def _reads(scenarios: dict) -> str:
    rows = []
    for name, figures in scenarios.items():
        for variant, by_file in figures["reads"].items():
            counts = {p: _count(by_file, p) for p in ("detectron2", "soft_teacher")}
            rows.append([name, variant, *counts.values(), sum(by_file.values())])
    headers = ["host waits for device", "step of", "in Detectron2", "in our code", "in all"]
    return tabulate(rows, headers=headers, tablefmt="github")


def _count(by_file: dict, package: str) -> int:
    return sum(n for file, n in by_file.items() if file.startswith(package + "/"))


def _conditions(results: dict) -> str:
    facts = {"rounds": results["rounds"], **results["machine"]}
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
