"""What the finished runs of a plan have measured, row by row."""

from dataclasses import dataclass, field, replace

from .plan import Plan
from .recipes import RECIPES
from .statistics import Estimate, Pair, difference, pairs, summary
from .tables import METRICS, Row, Table

__all__ = ["RowResult", "TableResult", "collect", "compare"]

OTHER = {"student": "teacher", "teacher": "student"}


@dataclass(frozen=True)
class RowResult:
    row: Row
    # metric -> seed -> value of the network that counts, after the last step
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    # seed -> AP of the other network, where it was evaluated
    other: dict[int, float] = field(default_factory=dict)
    gain: Estimate | None = None  # AP above the group's first row that was run, paired by seed
    paper_gain: float | None = None  # the same in the paper

    def measured(self, metric: str) -> Estimate | None:
        """Mean and standard deviation over the seeds."""
        return summary(list(self.scores.get(metric, {}).values()))


@dataclass(frozen=True)
class TableResult:
    table: Table
    rows: list[RowResult]  # in the paper's order
    pairs: list[Pair]  # of rows of one group, in the order of the paper's AP
    codes: list[str]  # checksums of all code that trained a part of it
    missing: list[str]  # names of the runs that are not finished


def collect(plan: Plan, table: Table) -> TableResult:
    """The results of a table so far."""
    rows, codes, missing = [], set(), []
    for row in plan.rows[table]:
        result = RowResult(row, {metric: {} for metric in METRICS})
        for seed, run in plan.runs_of(table, row).items() if plan.can_run(row) else ():
            if not run.finished:
                missing.append(run.name)
                continue
            codes.update(run.record.code)
            network = RECIPES[row.run].network
            last = {name: values[-1][1] for name, values in run.history().items() if values}
            for metric in METRICS:
                result.scores[metric][seed] = last[network][metric]
            if OTHER[network] in last:
                result.other[seed] = last[OTHER[network]]["AP"]
        rows.append(result)
    return compare(table, rows, sorted(codes), missing)


def compare(
    table: Table, rows: list[RowResult], codes: list[str], missing: list[str]
) -> TableResult:
    """A table from the scores of its rows."""
    groups: dict[str, list[RowResult]] = {}
    for result in rows:
        if result.scores["AP"]:
            groups.setdefault(result.row.group, []).append(result)
    rows = [_with_gain(result, groups.get(result.row.group, [])) for result in rows]
    found = [pair for group in groups.values() for pair in _pairs(group)]
    return TableResult(table, rows, found, codes, missing)


def _with_gain(result: RowResult, group: list[RowResult]) -> RowResult:
    if not result.scores["AP"] or group[0] is result:
        return result
    paper, first = result.row.paper_ap, group[0].row.paper_ap
    return replace(
        result,
        gain=difference(result.scores["AP"], group[0].scores["AP"]),
        paper_gain=None if paper is None else paper - first,
    )


def _pairs(group: list[RowResult]) -> list[Pair]:
    in_paper = [r for r in group if r.row.paper]
    named = {", ".join(filter(None, (r.row.name, r.row.group))): r for r in in_paper}
    return pairs(
        {name: r.row.paper[0] for name, r in named.items()},
        {name: r.scores["AP"] for name, r in named.items()},
    )
