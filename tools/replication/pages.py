"""Results of the tables as Markdown and CSV, beside the paper's own numbers."""

import csv
from pathlib import Path

from tabulate import tabulate

from soft_teacher.utils.atomic import atomic_write

from .results import RowResult, TableResult
from .statistics import Estimate, Pair, kendall_tau
from .tables import MASK, METRICS

__all__ = ["markdown", "write_csv"]

MEASURED = (*METRICS, *(MASK + metric for metric in METRICS))
CSV = ("table", "group", "row", "run", "metric", "mean", "std", "paper", "paper_std", "seeds")


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
    rows = [_row(r) for r in result.rows]
    # Columns that the paper leaves empty say nothing.
    kept = [name for name in rows[0] if not name or any(row[name] for row in rows)]
    cells = [[row[name] for name in kept] for row in rows]
    return tabulate(cells, headers=kept, tablefmt="github", disable_numparse=True)


def _row(result: RowResult) -> dict[str, str]:
    row, other = result.row, list(result.other.values())
    paper = [_number(value) for value in [*row.paper, None, None, None][: len(METRICS)]]
    if row.spread is not None:
        paper[0] += f" ± {row.spread:g}"
    return {
        "labeled": row.group,
        "": row.name,
        **{metric: _estimate(result.measured(metric)) for metric in MEASURED},
        "other network's AP": _number(sum(other) / len(other) if other else None),
        "seeds": str(len(result.scores.get("AP", ())) or ""),
        "above first row": _estimate(result.gain, "+.1f"),
        f"{MASK}AP above first row": _estimate(result.mask_gain, "+.1f"),
        **{f"paper {metric}": value for metric, value in zip(METRICS, paper)},
        "paper above first row": _number(result.paper_gain, "+.1f"),
        "note": row.note,
    }


def _number(value: float | None, form: str = ".1f") -> str:
    return "" if value is None else format(value, form)


def _estimate(value: Estimate | None, form: str = ".1f") -> str:
    if value is None:
        return ""
    spread = "" if value.spread is None else f" ± {value.spread:.1f}"
    return format(value.mean, form) + spread


def _order(found: list[Pair]) -> str:
    """How the order of the rows compares with the paper's."""
    if not found:
        return ""
    text = (
        f"Order: {sum(pair.agrees for pair in found)} of {len(found)} pairs of rows are in the "
        f"paper's order (Kendall's tau {kendall_tau(found):.2f})."
    )
    for verdict, is_noise in (("beyond noise", False), ("within noise", True), ("one seed", None)):
        for heading, agrees in (("As in the paper", True), ("Against it", False)):
            chosen = [p for p in found if p.agrees is agrees and p.is_noise is is_noise]
            if chosen:
                text += f"\n- {heading}, {verdict}: {'; '.join(map(_pair, chosen))}."
    return text


def _pair(pair: Pair) -> str:
    measured = _estimate(pair.measured, "+.1f")
    return f"{pair.better} over {pair.worse} by {measured} (paper {pair.paper:+.1f})"


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
        writer.writerow(CSV)
        for found in result.rows:
            paper = dict(zip(METRICS, found.row.paper))
            for metric in MEASURED:
                seeds = sorted(found.scores.get(metric, {}).items())
                if metric not in paper and not seeds:
                    continue
                row, measured = found.row, found.measured(metric) or Estimate(None, None, 0)
                writer.writerow(
                    [
                        *(result.table.key, row.group, row.name, row.run or "", metric),
                        *(_number(measured.mean, ".3f"), _number(measured.spread, ".3f")),
                        *(
                            _number(paper.get(metric), ""),
                            _number(row.spread, "") * (metric == "AP"),
                        ),
                        " ".join(f"{seed}:{value:.3f}" for seed, value in seeds),
                    ]
                )
