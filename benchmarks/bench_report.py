"""What the benchmarks report: rows of tables, spreads over rounds, and the machine."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

from soft_teacher.utils.atomic import atomic_write

__all__ = ["Row", "Tables", "machine", "page", "report", "shown", "spread", "table", "write"]

LIBRARIES = ("torch", "numpy", "pillow", "detectron2")
Row = dict[str, object]  # column -> value
Tables = dict[str, list[Row]]  # title -> rows, which may have columns of their own


def spread(name: str, values: np.ndarray) -> Row:
    """Median, smallest and largest over the rounds."""
    numbers = {"": np.median, ", from": np.min, ", to": np.max}
    return {name + suffix: float(function(values)) for suffix, function in numbers.items()}


def machine() -> Row:
    """What the figures depend on; ``load`` is the number of processes that want a core."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{name: _version(name) for name in LIBRARIES},
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def shown(value) -> str:
    """A value in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(rows: list[Row]) -> str:
    headers = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[shown(row.get(name)) for name in headers] for row in rows]
    return tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True)


def page(tables: Tables) -> str:
    return "\n\n".join(f"**{title}**\n\n{table(rows)}" for title, rows in tables.items())


def write(folder: Path, results: dict, text: str, name: str = "results") -> None:
    """NAME.json and NAME.md, each complete at any time."""
    for suffix, content in (("json", json.dumps(results, indent=2) + "\n"), ("md", text)):
        with atomic_write(str(folder / f"{name}.{suffix}")) as file:
            file.write(content)


def report(folder: Path, setup: Row, tables: Tables, name: str = "results") -> None:
    """Writes and prints the tables, their setup and the machine."""
    results = {"setup": setup, "machine": machine(), "tables": tables}
    facts = {**setup, **results["machine"]}
    text = page(tables) + "\n\n" + "".join(f"- {key}: {value}\n" for key, value in facts.items())
    write(folder, results, text, name)
    print(text)
