"""What the finished runs of a plan have measured, row by row."""

from dataclasses import dataclass, field, replace

from soft_teacher.runs.run import Run

from .plan import Plan
from .recipes import BETTER, RECIPES
from .statistics import Estimate, Pair, difference, pairs, summary
from .tables import MASK, METRICS, Row, Table

__all__ = ["RowResult", "TableResult", "collect", "compare"]

OTHER = {"student": "teacher", "teacher": "student"}
# What is before the name of a metric -> the task of an evaluation.
TASKS = {"": "bbox", MASK: "segm"}


@dataclass(frozen=True)
class RowResult:
    row: Row
    # metric, of boxes or MASK and a metric -> seed -> value of the network that counts, after the
    # last step
    scores: dict[str, dict[int, float]] = field(default_factory=dict)
    # seed -> AP of the other network, where it was evaluated
    other: dict[int, float] = field(default_factory=dict)
    gain: Estimate | None = None  # AP above the group's first row that was run, paired by seed
    mask_gain: Estimate | None = None  # the same of the mask AP
    paper_gain: float | None = None  # of the AP in the paper

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
            _add(result, seed, run, RECIPES[row.run].network)
        rows.append(result)
    return compare(table, rows, sorted(codes), missing)


def _add(result: RowResult, seed: int, run: Run, network: str) -> None:
    """Adds what a run has measured, of masks as well if it has evaluated them."""
    for prefix, task in TASKS.items():
        history = run.history(task)
        last = {name: values[-1][1] for name, values in history.items() if values}
        if not last:
            continue
        found = _best(history) if network == BETTER else last[network]
        for metric in METRICS:
            result.scores.setdefault(prefix + metric, {})[seed] = found[metric]
        if not prefix and OTHER.get(network) in last:
            result.other[seed] = last[OTHER[network]]["AP"]


def _best(history: dict[str, list]) -> dict[str, float]:
    """The evaluation of any network with the highest AP, which is NaN without a detection."""
    evaluations = [values for found in history.values() for _, values in found]
    return max(evaluations, key=lambda values: (values["AP"] == values["AP"], values["AP"]))


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
        mask_gain=difference(*(r.scores.get(f"{MASK}AP", {}) for r in (result, group[0]))),
        paper_gain=None if paper is None else paper - first,
    )


def _pairs(group: list[RowResult]) -> list[Pair]:
    in_paper = [r for r in group if r.row.paper]
    named = {", ".join(filter(None, (r.row.name, r.row.group))): r for r in in_paper}
    return pairs(
        {name: r.row.paper[0] for name, r in named.items()},
        {name: r.scores["AP"] for name, r in named.items()},
    )
