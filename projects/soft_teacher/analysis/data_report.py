"""The findings about a run's datasets as one page of text and one figure."""

import textwrap
from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from ..data.datasets.reading.balance import Reason
from .data_check import DatasetCheck, shared_content

__all__ = ["problems", "report_figure", "report_text"]

WIDTH = 100
EXAMPLES = 3
FEW_BOXES = 10
COLORS = {"labeled": "tab:blue", "unlabeled": "tab:gray", "test": "tab:orange"}


def report_text(checks: Sequence[DatasetCheck], warnings: Sequence[str] = ()) -> str:
    """One page: a row for each dataset, boxes per class, and what is wrong.

    Args:
        checks: of all datasets of a run.
        warnings: found earlier, one line each.
    """
    rows = [
        [c.role, c.images, c.empty, sum(c.boxes.values()), len(c.odd), len(c.unreadable), c.name]
        for c in checks
    ]
    header = ["role", "images", "without boxes", "boxes", "odd boxes", "unreadable", "dataset"]
    found = problems(checks) + list(warnings)
    parts = [
        tabulate(rows, header, intfmt=","),
        _balance_table(checks),
        _class_table(checks),
        "\n- ".join(["What to look at:", *found]) if found else "No problems found.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def problems(checks: Sequence[DatasetCheck]) -> list[str]:
    """What is wrong with the datasets, a line each, with a few examples."""
    lines = []
    for check in checks:
        where = f"{check.role} '{check.name}'"
        lines += _examples(f"{where}: {len(check.unreadable)} unreadable images", check.unreadable)
        lines += _examples(f"{where}: {len(check.odd)} odd boxes", check.odd)
        if check.role == "labeled":
            rare = [f"{k} ({n})" for k, n in check.boxes.items() if n < FEW_BOXES]
            if rare:
                lines.append(f"{where}: fewer than {FEW_BOXES} boxes of {', '.join(rare)}")
    return lines + shared_content(checks)


def report_figure(checks: Sequence[DatasetCheck], path: str) -> None:
    """Draws boxes per class, sizes of boxes and of images, and the images of each dataset.

    Args:
        path: of the picture.
    """
    panels = {
        "boxes per class": _draw_classes,
        "boxes: square root of the area, pixels": _draw_box_sizes,
        "images: width and height, pixels": _draw_image_sizes,
        "images": _draw_counts,
    }
    figure = Figure(figsize=(12, 8))
    for axis, (title, draw) in zip(figure.subplots(2, 2).flat, panels.items()):
        draw(axis, checks)
        axis.set_title(title)
        if axis.get_legend_handles_labels()[1]:
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _examples(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = f" and {len(lines) - EXAMPLES} more" if len(lines) > EXAMPLES else ""
    return [f"{title}: {'; '.join(lines[:EXAMPLES])}{more}"]


def _balance_table(checks: Sequence[DatasetCheck]) -> str:
    """How many annotations are used, with a column for each reason to drop some."""
    found = [(c, c.balance) for c in checks if c.balance.read]
    reasons = [r for r in Reason if any(balance.dropped[r] for _, balance in found)]
    if not found:
        return ""
    rows = [
        [f"{c.name} ({c.role})", b.read, b.learned, *(b.dropped[r] for r in reasons)]
        for c, b in found
    ]
    header = ["dataset", "annotations", "to learn from", *reasons]
    return tabulate(rows, header, intfmt=",")


def _class_table(checks: Sequence[DatasetCheck]) -> str:
    with_boxes = [c for c in checks if c.boxes]
    classes = list(dict.fromkeys(label for c in with_boxes for label in c.boxes))
    if not classes:
        return ""
    counts = {k: " / ".join(f"{c.boxes[k]:,}" for c in with_boxes) for k in classes}
    cells = [f"{k}: {counts[k]}" for k in classes]
    width = max(map(len, cells)) + 2
    columns = max(1, WIDTH // width)
    rows = [cells[n : n + columns] for n in range(0, len(cells), columns)]
    lines = ["".join(cell.ljust(width) for cell in row).rstrip() for row in rows]
    title = f"Boxes per class ({' / '.join(c.role for c in with_boxes)}):"
    return "\n".join([title, *lines])


def _draw_classes(axis, checks) -> None:
    with_boxes = [c for c in checks if c.boxes]
    totals = sum((c.boxes for c in with_boxes), Counter())
    classes = sorted(
        {label for c in with_boxes for label in c.boxes}, key=lambda label: -totals[label]
    )
    places, width = np.arange(len(classes)), 0.8 / max(len(with_boxes), 1)
    for n, check in enumerate(with_boxes):
        heights = [check.boxes[label] for label in classes]
        axis.bar(places + n * width, heights, width, **_style(check))
    names = [textwrap.shorten(label, 14, placeholder="...") for label in classes]
    axis.set_xticks(places, names, rotation=90, fontsize=8 if names[30:] else 10)
    axis.set_yscale("symlog")
    axis.set_ylim(top=10 * max(axis.get_ylim()[1], 1))  # room for the legend


def _draw_box_sizes(axis, checks) -> None:
    for check in checks:
        if len(check.box_sides):
            axis.hist(check.box_sides, 40, density=True, histtype="step", **_style(check))


def _draw_image_sizes(axis, checks) -> None:
    for check in checks:
        axis.plot(*check.sizes.T[::-1], ".", alpha=0.3, **_style(check))
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)


def _draw_counts(axis, checks) -> None:
    styles = [_style(check) for check in checks]
    names = [style["label"] for style in styles]
    axis.barh(names, [c.images for c in checks], color=[style["color"] for style in styles])
    empty = dict(color="white", hatch="//", edgecolor="black", label="without boxes")
    axis.barh(names, [c.empty if c.boxes else 0 for c in checks], **empty)
    axis.barh(names, [len(c.unreadable) for c in checks], color="tab:red", label="unreadable")
    for place, check in enumerate(checks):
        axis.text(check.images, place, f" {check.images:,}", va="center")
    axis.margins(x=0.15)


def _style(check: DatasetCheck) -> dict:
    name = textwrap.shorten(check.name, 40, placeholder="...")
    return {"color": COLORS[check.role], "label": f"{check.role}: {name}"}
