"""Tables of the run report, from the lines of metrics.json."""

import math
from collections import defaultdict
from collections.abc import Sequence

from .page import table

__all__ = ["ap_per_class", "class_table", "evaluations", "pseudo_box_table", "results_table"]

NETWORKS = ("student", "teacher")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Names of the APs of classes, as Detectron2's evaluators give them.
CLASS = "AP-"
LABELED, PSEUDO = "pseudo/labeled_boxes_per_image", "pseudo/boxes_per_image"


def evaluations(lines: Sequence[dict]) -> dict[str, dict[int, dict[str, float]]]:
    """What was evaluated: network, or network/dataset -> steps done -> metric -> value."""
    found: dict = defaultdict(lambda: defaultdict(dict))
    for line in sorted(lines, key=lambda line: line["iteration"]):
        for name, value in line.items():
            where, is_metric, metric = name.partition("/bbox/")
            if is_metric and where.split("/")[0] in NETWORKS:
                found[where][line["iteration"] + 1][metric] = value
    return {where: dict(found[where]) for where in sorted(found)}


def results_table(lines: Sequence[dict]) -> str:
    """A row for every evaluation of every network and dataset."""
    rows = [
        (step, where, [_number(values.get(metric)) for metric in METRICS])
        for where, steps in evaluations(lines).items()
        for step, values in steps.items()
    ]
    if not rows:
        return "<p>No evaluation.</p>"
    cells = [[f"{step:,}", where, *values] for step, where, values in sorted(rows)]
    return table(["steps", "network", *METRICS], cells)


def ap_per_class(steps: dict[int, dict[str, float]]) -> dict[str, dict[int, float]]:
    """class -> steps done -> AP, of the evaluations of one network on one dataset."""
    found: dict = defaultdict(dict)
    for step, values in steps.items():
        for metric, value in values.items():
            if metric.startswith(CLASS):
                found[metric.removeprefix(CLASS)][step] = value
    return dict(found)


def class_table(networks: dict[str, dict[int, dict[str, float]]]) -> str:
    """A row per class, the weakest first; nothing for a single one.

    Args:
        networks: network -> its :func:`evaluations` on one dataset; the last one sorts.
    """
    aps = {network: ap_per_class(steps) for network, steps in networks.items()}
    classes = {name for found in aps.values() for name in found}
    if len(classes) < 2:
        return ""

    def ap(network: str, step: int, name: str) -> float:
        return aps[network].get(name, {}).get(step, math.nan)

    def weakness(name: str) -> tuple[float, str]:
        network, steps = list(networks.items())[-1]
        last = ap(network, max(steps), name)
        return math.inf if math.isnan(last) else last, name

    columns = [(n, step, what) for n in networks for step, what in _last_and_best(networks[n])]
    header = [f"{network}, {what} ({step:,} steps)" for network, step, what in columns]
    rows = [
        [name, *(_number(ap(network, step, name)) for network, step, _ in columns)]
        for name in sorted(classes, key=weakness)
    ]
    return table(["class", *header], rows)


def _last_and_best(steps: dict[int, dict[str, float]]) -> list[tuple[int, str]]:
    """The last evaluation and the first of those with the highest AP: steps done, and which."""
    last = max(steps)
    known = {s: ap for s in sorted(steps) if not math.isnan(ap := steps[s].get("AP", math.nan))}
    best = max(known, key=known.__getitem__, default=last)
    return [(last, "last and best")] if best == last else [(last, "last"), (best, "best")]


def pseudo_box_table(lines: Sequence[dict]) -> str:
    """Labeled and pseudo boxes per image and class as last logged; nothing where none are."""
    latest: dict[str, float] = {}
    for line in sorted(lines, key=lambda line: line["iteration"]):
        latest.update(line)
    classes = {
        name.removeprefix(f"{kind}/")
        for name in latest
        for kind in (LABELED, PSEUDO)
        if name.startswith(f"{kind}/")
    }
    names = sorted(classes, key=lambda c: (-latest.get(f"{LABELED}/{c}", 0), c))
    rows = [(c, f"{LABELED}/{c}", f"{PSEUDO}/{c}") for c in names if len(names) > 1]
    if LABELED in latest or PSEUDO in latest:
        rows.append(("all", LABELED, PSEUDO))
    if not rows:
        return ""
    cells = [[name, *(_number(latest.get(k), 2) for k in kinds)] for name, *kinds in rows]
    return table(["class", "labeled boxes per image", "pseudo boxes per image"], cells)


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"
