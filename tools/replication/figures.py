"""Pictures of the tables: what was measured beside what the paper says."""

from pathlib import Path

from matplotlib.figure import Figure

from .results import TableResult

__all__ = ["draw"]

MEASURED, PAPER = "#1f77b4", "#888888"


def draw(result: TableResult, path: Path) -> None:
    """AP here and in the paper side by side: a row for each row, or Figure 1's curves."""
    folds = result.table.folds
    figure = Figure(figsize=(8, 3.6 if folds else 1.1 + 0.42 * len(result.rows)))
    axes = figure.subplots(1, 2, sharex=folds, sharey=not folds)
    for axis in axes:
        axis.grid(alpha=0.3)
    if folds:
        _draw_shares(result, *axes)
    else:
        _draw_rows(result, *axes)
        figure.suptitle(f"{result.table.name}. {result.table.title}", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _draw_rows(result: TableResult, here, there) -> None:
    for place, found in enumerate(result.rows):
        values = list(found.scores.get("AP", {}).values())
        here.plot(values, [place] * len(values), "o", color=MEASURED, alpha=0.35, ms=5)
        if (measured := found.measured("AP")) is not None:
            style = dict(fmt="D", color=MEASURED, capsize=3)
            here.errorbar(measured.mean, place, xerr=measured.spread, **style)
        paper = found.row.paper_ap
        if paper is None:
            continue
        there.plot(paper, place, "D", color=PAPER)
        there.annotate(
            f"{paper:g}", (paper, place), (7, -3), textcoords="offset points", fontsize=8
        )
    names = [f"{f.row.group} {f.row.name}".strip() for f in result.rows]
    here.set_yticks(range(len(names)), names)
    here.set_ylim(len(names) - 0.5, -0.5)
    here.set_xlabel("AP here: seeds, mean, standard deviation")
    there.set_xlabel("AP in the paper")
    there.margins(x=0.2)


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
