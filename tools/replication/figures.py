"""Pictures of the tables: what was measured beside what the paper says."""

from pathlib import Path

from matplotlib.figure import Figure

from .results import TableResult

__all__ = ["draw"]

MEASURED, PAPER = "#1f77b4", "#888888"


def draw(result: TableResult, path: Path) -> None:
    """The table as two panels of equal rows, AP here and AP in the paper, or Figure 1's curves."""
    if result.table.folds:
        _draw_shares(result, path)
    else:
        _draw_rows(result, path)


def _draw_rows(result: TableResult, path: Path) -> None:
    rows = result.rows
    height = 1.1 + 0.42 * len(rows)
    figure = Figure(figsize=(8, height))
    axes = figure.subplots(1, 2, sharey=True)
    for place, found in enumerate(rows):
        values = list(found.scores.get("AP", {}).values())
        measured = found.measured("AP")
        axes[0].plot(values, [place] * len(values), "o", color=MEASURED, alpha=0.35, ms=5)
        if measured is not None:
            axes[0].errorbar(
                measured.mean, place, xerr=measured.spread, fmt="D", color=MEASURED, capsize=3
            )
        axes[1].plot(found.row.paper[0], place, "D", color=PAPER)
        axes[1].annotate(
            f"{found.row.paper[0]:g}", (found.row.paper[0], place), (7, -3),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    names = [f"{f.row.group} {f.row.name}".strip() for f in rows]
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0].set_xlabel("AP here: seeds, mean, standard deviation")
    axes[1].set_xlabel("AP in the paper")
    axes[1].margins(x=0.2)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(f"{result.table.name}. {result.table.title}", fontsize=11)
    _save(figure, path)


def _draw_shares(result: TableResult, path: Path) -> None:
    """AP against the labeled share, a curve for each method."""
    figure = Figure(figsize=(8, 3.6))
    axes = figure.subplots(1, 2, sharex=True)
    shares = list(dict.fromkeys(found.row.group for found in result.rows))
    methods = dict.fromkeys(found.row.name for found in result.rows)
    for color, method in enumerate(methods):
        rows = [f for f in result.rows if f.row.name == method]
        style = dict(color=f"C{color}", marker="o", label=method)
        places = [shares.index(f.row.group) for f in rows]
        axes[1].errorbar(
            places, [f.row.paper[0] for f in rows], [f.row.spread or 0 for f in rows], **style
        )
        run = [(p, m) for p, f in zip(places, rows) if (m := f.measured("AP")) is not None]
        if run:
            means, spreads = zip(*((m.mean, m.spread or 0) for _, m in run))
            axes[0].errorbar([p for p, _ in run], means, spreads, capsize=3, **style)
    for axis, title in zip(axes, ("here", "in the paper")):
        axis.set_xticks(range(len(shares)), shares)
        axis.set_xlabel("labeled share")
        axis.set_ylabel(f"AP {title}")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
