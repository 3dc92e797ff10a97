"""Which runs a set of tables needs, and what may be reused of what is there."""

from collections.abc import Sequence
from pathlib import Path

from soft_teacher.experiment.yaml_config import load_config
from soft_teacher.model_zoo import get_config_file
from soft_teacher.runs.run import Run
from soft_teacher.utils.errors import ConfigError, did_you_mean

from .benchmark import Benchmark
from .recipes import RECIPES
from .tables import Row, Table

__all__ = ["Plan"]

MOST_CHANGES = 3
FINAL = "model_final.pth"


class Plan:
    """The runs behind the rows of tables, each of them once.

    Attributes:
        folder: of the benchmark's results.
        rows: table -> the rows that are wanted.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        tables: Sequence[Table],
        folder: Path,
        *,
        rows: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        opts: Sequence[str] = (),
        num_gpus: int = 1,
        any_code: bool = False,
    ):
        """
        Args:
            folder: of all results; the runs are in RUN/seedN below the benchmark's.
            rows: names of rows, groups or runs; None for all.
            seeds: None for the benchmark's.
            opts: KEY VALUE ... overrides of every run.
            num_gpus: of each run.
            any_code: reuse runs of other code.

        Raises:
            ConfigError: for a table or a row that cannot be run, or a mistake in a config.
        """
        self.benchmark = benchmark
        self.folder = Path(folder) / benchmark.folder
        self._seeds = seeds
        self._opts = list(opts)
        self._options = {"num_gpus": num_gpus, "any_code": any_code}
        self._runs: dict[tuple[str, int], Run] = {}
        self.rows = {table: self._rows(table, rows) for table in tables}
        for table, chosen in self.rows.items():
            for row in filter(self.can_run, chosen):
                self.runs_of(table, row)

    @property
    def runs(self) -> list[Run]:
        """Every run once, seed by seed."""
        return [run for _, run in sorted(self._runs.items(), key=lambda item: item[0][1])]

    def runs_of(self, table: Table, row: Row) -> dict[int, Run]:
        """The runs behind a row, by their seeds."""
        return {seed: self._run(row.run, seed) for seed in self._seeds_of(table, row)}

    def can_run(self, row: Row) -> bool:
        """Whether there is a run behind a row."""
        return row.run is not None and RECIPES[row.run].config in self.benchmark.configs

    def check_reuse(self) -> None:
        """Raises ConfigError if folders hold other runs, which are neither reused nor replaced."""
        changed = [run for run in self.runs if run.changes()]
        if not changed:
            return
        more = f", and so do the folders of {len(changed) - 1} other runs" if changed[1:] else ""
        raise ConfigError(
            f"{changed[0].folder} holds a different run "
            f"({'; '.join(changed[0].changes()[:MOST_CHANGES])}){more}: --rerun repeats it, "
            "--accept-older-code keeps runs that differ in the code alone"
        )

    def _seeds_of(self, table: Table, row: Row) -> Sequence[int]:
        if self._seeds is not None:
            return self._seeds
        # Where all images have labels there is but one fold.
        over_folds = table.folds and RECIPES[row.run].percent is not None
        return self.benchmark.fold_seeds if over_folds else self.benchmark.seeds

    def _run(self, name: str, seed: int) -> Run:
        if (name, seed) in self._runs:
            return self._runs[name, seed]
        recipe = RECIPES[name]
        config = get_config_file(self.benchmark.configs[recipe.config])
        folder = self.folder / name / f"seed{seed}"
        opts, after, preparation = [*self.benchmark.opts(recipe, seed), *self._opts], [], {}
        start = self.benchmark.start(recipe)
        if start is not None:
            after.append(self._run(start, seed))
            opts += ["MODEL.WEIGHTS", str(after[-1].folder / FINAL)]
        if recipe.labeled_by is not None:
            after.append(self._run(recipe.labeled_by, seed))
            images = load_config(config, opts).DATASETS.TRAIN_UNLABELED
            labels = folder / "labels.json"
            preparation[labels] = _labeling(after[-1], images, labels)
            opts += ["DATASETS.TRAIN_UNLABELED", f"('{labels}',)"]
        self._runs[name, seed] = Run(
            f"{name}/seed{seed}",
            config,
            folder,
            opts,
            data_files=self.benchmark.data_files(self.benchmark.split(recipe, seed)),
            after=after,
            preparation=preparation,
            **self._options,
        )
        return self._runs[name, seed]

    def _rows(self, table: Table, wanted: Sequence[str] | None) -> list[Row]:
        """The rows of a table that are wanted, all if ``wanted`` is None.

        Raises:
            ConfigError: none of them can be run.
        """
        rows = [r for r in table.rows if wanted is None or {r.name, r.group, r.run} & set(wanted)]
        if wanted is not None and not rows:
            names = dict.fromkeys(n for r in table.rows for n in (r.name, r.group, r.run) if n)
            raise ConfigError(
                f"{table.name} has none of the rows {', '.join(wanted)}"
                f"{did_you_mean(wanted[0], names)}; known are {', '.join(names)}"
            )
        if not any(map(self.can_run, rows)):
            why = {row.note or "there is no such config" for row in rows}
            raise ConfigError(
                f"{table.name} cannot be run on {self.benchmark.title}: {', '.join(sorted(why))}"
            )
        return rows


def _labeling(run: Run, images: Sequence[str], labels: Path) -> list:
    """The command line with which the student of a run labels images."""
    return [
        *("-m", "soft_teacher.commands.label", "--config-file", run.config_path),
        *("--network", "student"),
        *("--output", labels, *run.opts, "MODEL.WEIGHTS", str(run.folder / FINAL)),
        *("DATASETS.TRAIN_UNLABELED", str(tuple(images))),
    ]
