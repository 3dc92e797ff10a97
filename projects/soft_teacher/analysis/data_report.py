"""The findings about a training's datasets as one page of text and one figure."""

import textwrap
from typing import List, Sequence

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
        checks: of all datasets of a training.
        warnings: what was found already, one line each.
    """
    rows = [
        [c.role, c.images, c.empty, sum(c.boxes.values()), len(c.odd), len(c.unreadable), c.name]
        for c in checks
    ]
    header = ["role", "images", "without box", "boxes", "odd boxes", "unreadable", "dataset"]
    found = problems(checks) + list(warnings)
    parts = [
        tabulate(rows, header, intfmt=","),
        _balance_table(checks),
        _class_table(checks),
        "\n".join(["What to look at:", *(f"- {line}" for line in found)] if found else []),
        "Nothing is wrong with these images." if not found else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def problems(checks: Sequence[DatasetCheck]) -> List[str]:
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
    figure = Figure(figsize=(12, 8))
    axes = figure.subplots(2, 2)
    _draw_classes(axes[0, 0], checks)
    _draw_box_sizes(axes[0, 1], checks)
    _draw_image_sizes(axes[1, 0], checks)
    _draw_counts(axes[1, 1], checks)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _examples(title: str, lines: Sequence[str]) -> List[str]:
    if not lines:
        return []
    more = f" and {len(lines) - EXAMPLES} more" if len(lines) > EXAMPLES else ""
    return [f"{title}: {'; '.join(lines[:EXAMPLES])}{more}"]


def _balance_table(checks: Sequence[DatasetCheck]) -> str:
    """What becomes of the annotations, with a column for each reason that occurs."""
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
    lines = ["".join(c.ljust(width) for c in cells[n : n + columns]).rstrip()
             for n in range(0, len(cells), columns)]  # fmt: skip
    title = f"Boxes per class ({' / '.join(c.role for c in with_boxes)}):"
    return "\n".join([title, *lines])


def _draw_classes(axis, checks) -> None:
    with_boxes = [c for c in checks if c.boxes]
    classes = sorted(
        {label for c in with_boxes for label in c.boxes},
        key=lambda label: -sum(c.boxes[label] for c in with_boxes),
    )
    for n, check in enumerate(with_boxes):
        width = 0.8 / len(with_boxes)
        places = np.arange(len(classes)) + n * width
        heights = [check.boxes[label] for label in classes]
        axis.bar(places, heights, width, label=_label(check), color=COLORS[check.role])
    names = [textwrap.shorten(label, 14, placeholder="...") for label in classes]
    axis.set_xticks(np.arange(len(classes)), names, rotation=90, fontsize=8 if names[30:] else 10)
    axis.set_yscale("symlog")
    axis.set_ylim(top=10 * max(axis.get_ylim()[1], 1))  # the legend's place
    axis.set_title("boxes per class")
    _legend(axis)


def _draw_box_sizes(axis, checks) -> None:
    with_boxes = [c for c in checks if len(c.box_sides)]
    for check in with_boxes:
        color = COLORS[check.role]
        axis.hist(check.box_sides, 40, density=True, histtype="step", color=color,
                  label=_label(check))  # fmt: skip
    axis.set_title("boxes: square root of the area, pixels")
    _legend(axis)


def _draw_image_sizes(axis, checks) -> None:
    for check in checks:
        axis.plot(check.sizes[:, 1], check.sizes[:, 0], ".", alpha=0.3, color=COLORS[check.role],
                  label=_label(check))  # fmt: skip
    axis.set_title("images: width and height, pixels")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    _legend(axis)


def _draw_counts(axis, checks) -> None:
    names = [_label(check) for check in checks]
    totals = [check.images for check in checks]
    axis.barh(names, totals, color=[COLORS[check.role] for check in checks])
    axis.barh(names, [c.empty if c.boxes else 0 for c in checks], color="white", hatch="//",
              edgecolor="black", label="without box")  # fmt: skip
    axis.barh(names, [len(c.unreadable) for c in checks], color="tab:red", label="unreadable")
    for place, total in enumerate(totals):
        axis.text(total, place, f" {total:,}", va="center")
    axis.set_title("images")
    axis.margins(x=0.15)
    _legend(axis)


def _label(check: DatasetCheck) -> str:
    return f"{check.role}: {textwrap.shorten(check.name, 40, placeholder='...')}"


def _legend(axis) -> None:
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8)
