"""Pictures of the tables: what was measured beside what the paper says."""

from pathlib import Path

from matplotlib.figure import Figure

from .results import RowResult, TableResult
from .tables import MASK

__all__ = ["draw"]

MEASURED, PAPER = "#1f77b4", "#888888"
IN_PAPER = "AP in the paper"


def draw(result: TableResult, path: Path) -> None:
    """AP side by side, a row for each row: here, of masks where there are some, and in the paper.

    Of the tables over folds it is Figure 1's curves, here and in the paper.
    """
    folds = result.table.folds
    panels = ["AP", IN_PAPER] if folds else _panels(result)
    figure = Figure(figsize=(4 * len(panels), 3.6 if folds else 1.1 + 0.42 * len(result.rows)))
    axes = figure.subplots(1, len(panels), sharex=folds, sharey=not folds, squeeze=False)[0]
    for axis in axes:
        axis.grid(alpha=0.3)
    if folds:
        _draw_shares(result, *axes)
    else:
        _draw_rows(result, dict(zip(panels, axes)))
        figure.suptitle(f"{result.table.name}. {result.table.title}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _panels(result: TableResult) -> list[str]:
    """Metrics that are drawn, or the paper: boxes always."""
    masks = f"{MASK}AP"
    wanted = {
        masks: any(masks in found.scores for found in result.rows),
        IN_PAPER: any(found.row.paper for found in result.rows),
    }
    return ["AP", *(panel for panel, is_wanted in wanted.items() if is_wanted)]


def _draw_rows(result: TableResult, axes: dict) -> None:
    for place, found in enumerate(result.rows):
        for panel, axis in axes.items():
            draw = _draw_paper if panel == IN_PAPER else _draw_measured
            draw(axis, place, found, panel)
    names = [f"{f.row.group} {f.row.name}".strip() for f in result.rows]
    axes["AP"].set_yticks(range(len(names)), names)
    axes["AP"].set_ylim(len(names) - 0.5, -0.5)
    for panel, axis in axes.items():
        here = f"{panel} here: seeds, mean, standard deviation"
        axis.set_xlabel(panel if panel == IN_PAPER else here)


def _draw_measured(axis, place: int, found: RowResult, metric: str) -> None:
    values = list(found.scores.get(metric, {}).values())
    axis.plot(values, [place] * len(values), "o", color=MEASURED, alpha=0.35, ms=5)
    if (measured := found.measured(metric)) is not None:
        style = dict(fmt="D", color=MEASURED, capsize=3)
        axis.errorbar(measured.mean, place, xerr=measured.spread, **style)


def _draw_paper(axis, place: int, found: RowResult, _) -> None:
    axis.margins(x=0.2)
    if (ap := found.row.paper_ap) is not None:
        axis.plot(ap, place, "D", color=PAPER)
        axis.annotate(f"{ap:g}", (ap, place), (7, -3), textcoords="offset points", fontsize=8)


def _draw_shares(result: TableResult, here, there) -> None:
    """AP against the labeled share, a curve for each method."""
    shares = list(dict.fromkeys(found.row.group for found in result.rows))
    for color, method in enumerate(dict.fromkeys(found.row.name for found in result.rows)):
        rows = [(shares.index(f.row.group), f) for f in result.rows if f.row.name == method]
        style = dict(color=f"C{color}", marker="o", label=method)
        there.errorbar(*zip(*((p, f.row.paper[0], f.row.spread or 0) for p, f in rows)), **style)
        run = [(p, m.mean, m.spread or 0) for p, f in rows if (m := f.measured("AP")) is not None]
        if run:
            here.errorbar(*zip(*run), capsize=3, **style)
    for axis, title in ((here, "here"), (there, "in the paper")):
        axis.set_xticks(range(len(shares)), shares)
        axis.set_xlabel("labeled share")
        axis.set_ylabel(f"AP {title}")
    there.legend(fontsize=8)
