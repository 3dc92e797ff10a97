"""Tables of the run report, from the lines of metrics.json."""

import math
from collections import defaultdict
from collections.abc import Sequence

from .page import table

__all__ = ["ap_per_class", "class_table", "evaluations", "pseudo_box_table", "results_table"]

NETWORKS = ("student", "teacher")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Task of an evaluation -> what is before the names of its metrics.
TASKS = {"bbox": "", "segm": "mask "}
# Names of the APs of classes, as Detectron2's evaluators give them.
CLASS = "AP-"
# What is logged of all classes and of each -> its column.
LABELED, PSEUDO = "pseudo/labeled_boxes_per_image", "pseudo/boxes_per_image"
COLUMNS = {
    LABELED: "labeled boxes per image",
    PSEUDO: "pseudo boxes per image",
    "pseudo/mask_iou": "IoU of pseudo masks",
}


def evaluations(
    lines: Sequence[dict], task: str = "bbox"
) -> dict[str, dict[int, dict[str, float]]]:
    """What was evaluated: network, or network/dataset -> steps done -> metric -> value.

    Args:
        task: "bbox" or, of masks, "segm".
    """
    found: dict = defaultdict(lambda: defaultdict(dict))
    for line in sorted(lines, key=lambda line: line["iteration"]):
        for name, value in line.items():
            where, is_metric, metric = name.partition(f"/{task}/")
            if is_metric and where.split("/")[0] in NETWORKS:
                found[where][line["iteration"] + 1][metric] = value
    return {where: dict(found[where]) for where in sorted(found)}


def results_table(lines: Sequence[dict]) -> str:
    """A row for every evaluation of every network and dataset; masks are beside the boxes."""
    tasks = {task: found for task in TASKS if (found := evaluations(lines, task))}
    columns = [(task, metric) for task in tasks for metric in METRICS]
    places = {(step, where) for found in tasks.values() for where in found for step in found[where]}
    if not places:
        return "<p>No evaluation.</p>"

    def value(task: str, metric: str, step: int, where: str) -> float | None:
        return tasks[task].get(where, {}).get(step, {}).get(metric)

    cells = [
        [f"{step:,}", where, *(_number(value(*column, step, where)) for column in columns)]
        for step, where in sorted(places)
    ]
    return table(["steps", "network", *(TASKS[task] + metric for task, metric in columns)], cells)


def ap_per_class(steps: dict[int, dict[str, float]]) -> dict[str, dict[int, float]]:
    """class -> steps done -> AP, of the evaluations of one network on one dataset."""
    found: dict = defaultdict(dict)
    for step, values in steps.items():
        for metric, value in values.items():
            if metric.startswith(CLASS):
                found[metric.removeprefix(CLASS)][step] = value
    return dict(found)


def class_table(
    networks: dict[str, dict[int, dict[str, float]]],
    masks: dict[str, dict[int, dict[str, float]]] | None = None,
) -> str:
    """A row per class, the weakest first; nothing for a single one.

    Args:
        networks: network -> its :func:`evaluations` on one dataset; the last one sorts.
        masks: the same of masks, for columns beside those of the boxes.
    """
    aps = {network: ap_per_class(steps) for network, steps in networks.items()}
    mask_aps = {network: ap_per_class(steps) for network, steps in (masks or {}).items()}
    classes = {name for found in aps.values() for name in found}
    if len(classes) < 2:
        return ""

    def ap(found: dict, network: str, step: int, name: str) -> float:
        return found.get(network, {}).get(name, {}).get(step, math.nan)

    def weakness(name: str) -> tuple[float, str]:
        network, steps = list(networks.items())[-1]
        last = ap(aps, network, max(steps), name)
        return math.inf if math.isnan(last) else last, name

    columns = [
        (kind, found, network, step, what)
        for network in networks
        for step, what in _last_and_best(networks[network])
        for kind, found in (("", aps), ("masks, ", mask_aps))
        if network in found
    ]
    header = [
        f"{network}, {kind}{what} ({step:,} steps)" for kind, _, network, step, what in columns
    ]
    rows = [
        [name, *(_number(ap(found, network, step, name)) for _, found, network, step, _ in columns)]
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
    """Labeled and pseudo boxes per image and class as last logged; nothing where none are.

    Beside them is the quality of pseudo masks, where there are some.
    """
    latest: dict[str, float] = {}
    for line in sorted(lines, key=lambda line: line["iteration"]):
        latest.update(line)
    kinds = [kind for kind in COLUMNS if kind in latest or kind in (LABELED, PSEUDO)]
    classes = {
        name.removeprefix(f"{kind}/")
        for name in latest
        for kind in kinds
        if name.startswith(f"{kind}/")
    }
    names = sorted(classes, key=lambda c: (-latest.get(f"{LABELED}/{c}", 0), c))
    rows = [(c, [f"{kind}/{c}" for kind in kinds]) for c in names if len(names) > 1]
    if LABELED in latest or PSEUDO in latest:
        rows.append(("all", kinds))
    if not rows:
        return ""
    cells = [[name, *(_number(latest.get(k), 2) for k in keys)] for name, keys in rows]
    return table(["class", *(COLUMNS[kind] for kind in kinds)], cells)


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"
