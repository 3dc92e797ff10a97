"""Results of the tables as Markdown and CSV, beside the paper's own numbers."""

import csv
from pathlib import Path
from typing import List, Optional, Sequence

from tabulate import tabulate

from soft_teacher.utils.atomic import atomic_write

from .results import RowResult, TableResult
from .statistics import Estimate, Pair, kendall_tau
from .tables import METRICS

__all__ = ["markdown", "write_csv"]


def markdown(result: TableResult, picture: str) -> str:
    """A section on one table.

    Args:
        picture: address of its picture.
    """
    table = result.table
    parts = [f"### {table.name}. {table.title}", _table(result), f"![{table.name}]({picture})"]
    parts += [text for text in (_order(result.pairs), _gaps(result)) if text]
    return "\n\n".join(parts) + "\n"


def _table(result: TableResult) -> str:
    grouped = any(r.row.group for r in result.rows)
    header = [
        "", *METRICS, "other network's AP", "seeds", "above first row",
        *(f"paper {metric}" for metric in METRICS), "paper above first row", "note",
    ]  # fmt: skip
    lines = [[r.row.group] * grouped + _line(r) for r in result.rows]
    header = ["labeled"] * grouped + header
    # Columns that the paper leaves empty say nothing.
    kept = [n for n, name in enumerate(header) if not name or any(line[n] for line in lines)]
    return tabulate(
        [[line[n] for n in kept] for line in lines],
        headers=[header[n] for n in kept],
        tablefmt="github",
        disable_numparse=True,
    )


def _line(result: RowResult) -> List[str]:
    row = result.row
    paper = [*row.paper, None, None][: len(METRICS)]
    cells = [_number(value) for value in paper]
    if row.spread is not None:
        cells[0] += f" ± {row.spread:g}"
    other = list(result.other.values())
    return [
        row.name,
        *(_estimate(result.measured(metric)) for metric in METRICS),
        _number(sum(other) / len(other) if other else None),
        str(len(result.scores.get("AP", ())) or ""),
        _estimate(result.gain, "+.1f"),
        *cells,
        _number(result.paper_gain, "+.1f"),
        row.note,
    ]


def _number(value: Optional[float], form: str = ".1f") -> str:
    return "" if value is None else format(value, form)


def _estimate(value: Optional[Estimate], form: str = ".1f") -> str:
    if value is None:
        return ""
    spread = "" if value.spread is None else f" ± {value.spread:.1f}"
    return format(value.mean, form) + spread


def _order(found: Sequence[Pair]) -> str:
    """How the order of the rows compares with the paper's."""
    if not found:
        return ""
    agreeing = [pair for pair in found if pair.agrees]
    text = (
        f"Order: {len(agreeing)} of {len(found)} pairs of rows are in the paper's order "
        f"(Kendall's tau {kendall_tau(found):.2f})."
    )
    for verdict, is_noise in (("beyond noise", False), ("within noise", True), ("one seed", None)):
        for heading, agrees in (("As in the paper", True), ("Against it", False)):
            chosen = [p for p in found if p.agrees is agrees and p.is_noise is is_noise]
            if chosen:
                listed = "; ".join(map(_pair, chosen))
                text += f"\n- {heading}, {verdict}: {listed}."
    return text


def _pair(pair: Pair) -> str:
    return (
        f"{pair.better} over {pair.worse} by {_estimate(pair.measured, '+.1f')} "
        f"(paper {pair.paper:+.1f})"
    )


def _gaps(result: TableResult) -> str:
    """What is missing, or made by different code."""
    parts = []
    if result.missing:
        parts.append(f"Not finished: {', '.join(result.missing)}.")
    if len(result.codes) > 1:
        parts.append(f"Trained by different code: {', '.join(result.codes)}.")
    return " ".join(parts)


def write_csv(result: TableResult, path: Path) -> None:
    """One line for each row and metric: mean, spread, values by seed, and the paper's number."""
    with atomic_write(str(path)) as file:
        writer = csv.writer(file)
        writer.writerow(
            ["table", "group", "row", "run", "metric", "mean", "std", "paper", "paper_std", "seeds"]
        )
        for found in result.rows:
            paper = dict(zip(METRICS, found.row.paper))
            for metric in METRICS:
                if metric in paper or found.scores.get(metric):
                    writer.writerow(_csv_line(result, found, metric, paper.get(metric)))


def _csv_line(result: TableResult, found: RowResult, metric: str, paper) -> list:
    row, measured = found.row, found.measured(metric)
    values = " ".join(f"{s}:{v:.3f}" for s, v in sorted(found.scores.get(metric, {}).items()))
    return [
        result.table.key,
        row.group,
        row.name,
        row.run or "",
        metric,
        "" if measured is None else f"{measured.mean:.3f}",
        "" if measured is None or measured.spread is None else f"{measured.spread:.3f}",
        "" if paper is None else paper,
        "" if metric != "AP" or row.spread is None else row.spread,
        values,
    ]
