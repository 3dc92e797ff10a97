"""One HTML page about a run: curves, results, pictures, config, versions, command."""

import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info
from matplotlib.figure import Figure

from .metrics_file import read_metrics
from .page import embedded_picture, preformatted, write_page

__all__ = ["series", "write_report"]

REPORT = "report.html"
NETWORKS = ("student", "teacher")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
MOST_PICTURES = 8
# Curves that belong together: title -> prefixes of the scalars' names.
PANELS = {
    "AP on the test images": ("student/bbox/AP", "teacher/bbox/AP"),
    "supervised losses": ("sup/loss",),
    "unsupervised losses": ("unsup/loss",),
    "pseudo boxes per image": ("pseudo/num_",),
    "boxes per image, pseudo and labeled": (
        "pseudo/boxes_per_image",
        "pseudo/labeled_boxes_per_image",
    ),
    "precision and recall of the pseudo boxes": ("pseudo/precision", "pseudo/recall"),
    "variance of the candidates, reliability of the background": (
        "pseudo/mean_variance",
        "unsup/mean_background",
    ),
    "learning rate": ("lr",),
    "EMA momentum, labeled share": ("ema_momentum", "labeled_share"),
    "images per second": ("images_per_second",),
    "seconds per step": ("time", "data_time"),
}
# Scalars of one class, which are too many for a panel.
OF_A_CLASS = re.compile("/bbox/AP-|boxes_per_image/")


def series(lines: Sequence[dict], name: str) -> list[tuple[int, float]]:
    """(steps done, value) of a scalar, in order."""
    return sorted((line["iteration"] + 1, line[name]) for line in lines if name in line)


def write_report(folder: Path, *, title: str = "Soft Teacher", command: str = "") -> Path:
    """Writes ``report.html`` into a run's folder; it needs no other file.

    ``command`` is what the run was started with. Raises ConfigError if the folder holds no run.
    """
    folder = Path(folder)
    path, config = folder / REPORT, folder / "config.yaml"
    lines = read_metrics(folder)
    sections = {
        "Results": _results(lines),
        "Curves": _curves(lines),
        "Pictures": _pictures(folder),
        "Command": preformatted(command),
        "Config": preformatted(config.read_text() if config.is_file() else ""),
        "Versions": preformatted(collect_env_info()),
    }
    write_page(path, title, sections)
    return path


def _results(lines: Sequence[dict]) -> str:
    """A row for every evaluation of every network and dataset."""
    rows: dict[tuple, dict] = {}
    for line in lines:
        for name, value in line.items():
            where, _, metric = name.rpartition("/bbox/")
            if where.split("/")[0] in NETWORKS and metric in METRICS:
                rows.setdefault((line["iteration"] + 1, where), {})[metric] = value
    if not rows:
        return "<p>No evaluation.</p>"
    header = "".join(f"<th>{text}</th>" for text in ("steps", "network", *METRICS))
    body = "".join(
        f"<tr><td>{step:,}</td><td>{html.escape(where)}</td>"
        + "".join(f"<td>{_number(values.get(metric))}</td>" for metric in METRICS)
        + "</tr>\n"
        for (step, where), values in sorted(rows.items())
    )
    return f"<table><tr>{header}</tr>\n{body}</table>"


def _number(value) -> str:
    return "" if value is None or value != value else f"{value:.1f}"


def _curves(lines: Sequence[dict]) -> str:
    names = sorted({name for line in lines for name in line})
    found = []
    for title, prefixes in PANELS.items():
        chosen = [n for n in names if n.startswith(prefixes) and not OF_A_CLASS.search(n)]
        if title.startswith("AP"):
            chosen = [n for n in chosen if n.endswith("/AP")]
        curves = {name: series(lines, name) for name in chosen}
        if curves:
            found.append(_figure(title, curves))
    return "".join(found)


def _figure(title: str, curves: dict[str, list[tuple]]) -> str:
    figure = Figure(figsize=(7.5, 3.2))
    axis = figure.subplots()
    for name, points in curves.items():
        axis.plot(*zip(*points), label=name, marker="." if len(points) < 20 else None)
    axis.set_title(title, fontsize=11)
    axis.set_xlabel("steps")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    figure.tight_layout()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return embedded_picture(image.getvalue(), title)


def _pictures(folder: Path) -> str:
    """Some of the run's pictures, evenly spaced, up to the last."""
    paths = sorted((folder / "pictures").glob("*.png"))
    step = max(len(paths) / MOST_PICTURES, 1)
    chosen = sorted({paths[-1 - int(n * step)] for n in range(min(len(paths), MOST_PICTURES))})
    return "".join(embedded_picture(path.read_bytes(), path.stem) for path in chosen)
