"""What the finished runs of a plan have measured, row by row."""

from dataclasses import dataclass, field
from typing import Dict, List, Optional

from .plan import Plan
from .recipes import RECIPES
from .statistics import Estimate, Pair, difference, pairs, summary
from .tables import METRICS, Row, Table

__all__ = ["RowResult", "TableResult", "collect", "compare"]

OTHER = {"student": "teacher", "teacher": "student"}


@dataclass(frozen=True)
class RowResult:
    """
    Attributes:
        row: of the paper's table.
        scores: metric -> seed -> value of the network that counts, after the last step.
        other: seed -> AP of the other network, where it was evaluated.
        gain: AP above the first row of the group that was run, paired by seed.
        paper_gain: the same in the paper.
    """

    row: Row
    scores: Dict[str, Dict[int, float]] = field(default_factory=dict)
    other: Dict[int, float] = field(default_factory=dict)
    gain: Optional[Estimate] = None
    paper_gain: Optional[float] = None

    def measured(self, metric: str) -> Optional[Estimate]:
        """Mean and standard deviation over the seeds."""
        return summary(list(self.scores.get(metric, {}).values()))


@dataclass(frozen=True)
class TableResult:
    """
    Attributes:
        table: of the paper.
        rows: in the paper's order.
        pairs: of rows of one group, in the order of the paper's AP.
        codes: checksums of all code that trained a part of it.
        missing: seeds or rows that are not finished, as "RUN/seedN".
    """

    table: Table
    rows: List[RowResult]
    pairs: List[Pair]
    codes: List[str]
    missing: List[str]


def collect(plan: Plan, table: Table) -> TableResult:
    """The results of a table as far as they are there."""
    rows, codes, missing = [], set(), []
    for row in plan.rows[table]:
        scores: Dict[str, Dict[int, float]] = {metric: {} for metric in METRICS}
        other: Dict[int, float] = {}
        runs = plan.runs_of(table, row) if plan.can_run(row) else {}
        for seed, run in runs.items():
            if not run.finished:
                missing.append(run.name)
                continue
            codes.update(run.record.code)
            network = RECIPES[row.run].network
            last = {name: values[-1][1] for name, values in run.history().items() if values}
            for metric in METRICS:
                scores[metric][seed] = last[network][metric]
            if OTHER[network] in last:
                other[seed] = last[OTHER[network]]["AP"]
        rows.append(RowResult(row, scores, other))
    return compare(table, rows, sorted(codes), missing)


def compare(
    table: Table, rows: List[RowResult], codes: List[str], missing: List[str]
) -> TableResult:
    """A table from the scores of its rows."""
    return TableResult(table, _with_gains(rows), _pairs(rows), codes, missing)


def _groups(rows: List[RowResult]) -> List[List[RowResult]]:
    """Rows with results, by their groups."""
    found: Dict[str, List[RowResult]] = {}
    for result in rows:
        if result.scores["AP"]:
            found.setdefault(result.row.group, []).append(result)
    return list(found.values())


def _with_gains(rows: List[RowResult]) -> List[RowResult]:
    first = {group[0].row.group: group[0] for group in _groups(rows)}
    found = []
    for result in rows:
        base = first.get(result.row.group)
        if base is None or base is result or not result.scores["AP"]:
            found.append(result)
            continue
        found.append(
            RowResult(
                result.row,
                result.scores,
                result.other,
                difference(result.scores["AP"], base.scores["AP"]),
                result.row.paper[0] - base.row.paper[0],
            )
        )
    return found


def _pairs(rows: List[RowResult]) -> List[Pair]:
    found = []
    for group in _groups(rows):
        names = [", ".join(filter(None, (r.row.name, r.row.group))) for r in group]
        paper = {name: r.row.paper[0] for name, r in zip(names, group)}
        scores = {name: r.scores["AP"] for name, r in zip(names, group)}
        found += pairs(paper, scores)
    return found
