"""One HTML page about a run: curves, results, pictures, config, versions, command."""

import html
import io
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils.collect_env import collect_env_info
from matplotlib.figure import Figure

from .metrics_file import read_metrics
from .page import embedded_picture, preformatted, write_page
from .report_tables import (
    ap_per_class,
    class_table,
    evaluations,
    pseudo_box_table,
    results_table,
)

__all__ = ["series", "write_report"]

REPORT = "report.html"
MOST_PICTURES = 8
# Classes whose curves can be distinguished.
MOST_CURVES = 12
COLORS = 10  # of matplotlib's cycle
# Curves that belong together: title -> prefixes of the scalars' names.
PANELS = {
    "AP on the test images": ("student/", "teacher/"),
    "supervised losses": ("sup/loss",),
    "unsupervised losses": ("unsup/loss",),
    "pseudo boxes per image": ("pseudo/num_",),
    "boxes per image, pseudo and labeled": (
        "pseudo/boxes_per_image",
        "pseudo/labeled_boxes_per_image",
    ),
    "precision and recall of the pseudo boxes": ("pseudo/precision", "pseudo/recall"),
    "IoU of the pseudo masks": ("pseudo/mask_iou",),
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
OF_A_CLASS = re.compile("/(bbox|segm)/AP-|(boxes_per_image|mask_iou)/")
# The AP of boxes, or of masks.
AP = re.compile("/(bbox|segm)/AP$")


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
        "Results": results_table(lines),
        "AP per class": _classes(lines),
        "Labeled and pseudo boxes per class": pseudo_box_table(lines),
        "Curves": _curves(lines),
        "Test images": _embedded(_first_and_last(folder)),
        "Pictures": _embedded(_steps(folder)),
        "Command": preformatted(command),
        "Config": preformatted(config.read_text() if config.is_file() else ""),
        "Versions": preformatted(collect_env_info()),
    }
    write_page(path, title, sections)
    return path


def _classes(lines: Sequence[dict]) -> str:
    """The AP of every class as a table per dataset, and of some classes as curves."""
    masks = _by_dataset(evaluations(lines, "segm"))
    found = []
    for dataset, networks in _by_dataset(evaluations(lines)).items():
        if text := class_table(networks, masks.get(dataset)):
            heading = f"<h3>{html.escape(dataset)}</h3>\n" if dataset else ""
            found.append(heading + text + _class_curves(networks, dataset))
    return "".join(found)


def _by_dataset(found: dict[str, dict]) -> dict[str, dict[str, dict]]:
    """Evaluations as dataset -> network -> steps done -> metrics."""
    datasets: dict[str, dict] = defaultdict(dict)
    for where, steps in found.items():
        network, _, dataset = where.partition("/")
        datasets[dataset][network] = steps
    return datasets


def _class_curves(networks: dict[str, dict], dataset: str) -> str:
    """Of the teacher, if it was evaluated."""
    network, steps = list(networks.items())[-1]
    found = ap_per_class(steps)
    known = {c: aps for c, aps in found.items() if not all(map(math.isnan, aps.values()))}
    if not known or len(known) > MOST_CURVES:
        return ""
    curves = {name: sorted(aps.items()) for name, aps in sorted(known.items())}
    where = f" on {dataset}" if dataset else ""
    return _figure(f"AP per class of the {network}{where}", curves, beside=True)


def _curves(lines: Sequence[dict]) -> str:
    names = sorted({name for line in lines for name in line})
    found = []
    for title, prefixes in PANELS.items():
        chosen = [n for n in names if n.startswith(prefixes) and not OF_A_CLASS.search(n)]
        if title.startswith("AP"):
            chosen = [n for n in chosen if AP.search(n)]
        curves = {name: series(lines, name) for name in chosen}
        if curves:
            found.append(_figure(title, curves))
    return "".join(found)


def _figure(title: str, curves: dict[str, list[tuple]], *, beside: bool = False) -> str:
    """Curves by name, which are in the figure or ``beside`` it."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axis = figure.subplots()
    lines = []
    for number, points in enumerate(curves.values()):
        dashes = "-" if number < COLORS else "--"
        marker = "." if len(points) < 20 else None
        lines += axis.plot(*zip(*points), marker=marker, linestyle=dashes)
    axis.set_title(title, fontsize=11, parse_math=False)
    axis.set_xlabel("steps")
    axis.grid(alpha=0.3)
    place = {"loc": "outside right upper"} if beside else {}
    legend = (figure if beside else axis).legend(lines, curves, fontsize=7, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return embedded_picture(image.getvalue(), title)


def _steps(folder: Path) -> list[Path]:
    """Some of the run's pictures of steps, evenly spaced, up to the last."""
    paths = sorted((folder / "pictures").glob("step_*.png"))
    step = max(len(paths) / MOST_PICTURES, 1)
    return sorted({paths[-1 - int(n * step)] for n in range(min(len(paths), MOST_PICTURES))})


def _first_and_last(folder: Path) -> list[Path]:
    """The pictures of test images after the first evaluation and after the last."""
    paths = sorted((folder / "pictures").glob("validation_*.png"))
    return paths[:1] + paths[1:][-1:]


def _embedded(paths: Sequence[Path]) -> str:
    return "".join(embedded_picture(path.read_bytes(), path.stem) for path in paths)
