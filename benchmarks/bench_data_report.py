"""The data benchmark's figures: ratios per round, tables, and the machine they hold for."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

from soft_teacher.data.augmentation.policies import VARIANTS

HEADLINE = "paper"
LIBRARIES = ("torch", "numpy", "pillow", "detectron2")


def summarize(seconds: dict, parts: dict) -> dict:
    """The content of results.json, but for "setup".

    Args:
        seconds: short side -> contender -> (rounds,) seconds per sample.
        parts: short side -> variant -> part -> milliseconds.

    Returns:
        ``times_stock`` and ``share_of_floor`` of the paper's variant, short side -> median over
        the rounds; ``samples_per_second``, ``ratios`` with median, smallest and largest round;
        ``parts_ms``; ``machine``.
    """
    per_second, ratios = {}, {}
    for side, times in seconds.items():
        per_second[str(side)] = {name: spread(1 / t) for name, t in times.items()}
        ratios[str(side)] = {
            variant: {
                "times_stock": spread(times["stock"] / times[variant]),
                "share_of_floor": spread(times["floor"] / times[variant]),
            }
            for variant in VARIANTS
        }
    headline = {
        key: {side: of_side[HEADLINE][key]["median"] for side, of_side in ratios.items()}
        for key in ("times_stock", "share_of_floor")
    }
    return {
        **headline,
        "ratios": ratios,
        "samples_per_second": per_second,
        "parts_ms": {str(side): of_side for side, of_side in parts.items()},
        "machine": machine(),
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": float(np.median(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }


def machine() -> dict:
    """What the figures depend on; ``load`` counts the processes that wanted a core meanwhile."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{name: _version(name) for name in LIBRARIES},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def report(results: dict, folder: Path) -> str:
    """Write results.json and results.md into ``folder``; return the text of the latter."""
    parts = [_speed_table(results), _parts_table(results["parts_ms"]), _conditions(results)]
    text = "\n\n".join(parts) + "\n"
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "results.md").write_text(text)
    return text


def _speed_table(results: dict) -> str:
    headers = ["short side", "variant", "floor/s", "stock/s", "ours/s", "x stock", "% of floor"]
    rows = []
    for side, ratios in results["ratios"].items():
        per_second = {n: s["median"] for n, s in results["samples_per_second"][side].items()}
        for variant, ratio in ratios.items():
            speeds = [f"{per_second[name]:.0f}" for name in ("floor", "stock", variant)]
            stock = with_range(ratio["times_stock"], "{:.2f}")
            share = with_range(ratio["share_of_floor"], "{:.0%}")
            rows.append([side, variant, *speeds, stock, share])
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def with_range(values: dict, form: str) -> str:
    """A :func:`spread` as text: the median, and in brackets the other two."""
    median, low, high = (form.format(values[key]) for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def _parts_table(parts_ms: dict) -> str:
    columns = {f"{v} {side}": ms for side, of_side in parts_ms.items() for v, ms in of_side.items()}
    first, *_ = columns.values()
    rows = [[name, *(ms[name] for ms in columns.values())] for name in first]
    rows.append(["sum", *(sum(ms.values()) for ms in columns.values())])
    headers = ["ms per sample", *columns]
    return tabulate(rows, headers=headers, tablefmt="github", floatfmt=".2f")


def _conditions(results: dict) -> str:
    facts = {**results["setup"], **results["machine"]}
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
