"""Where experiments are run: on COCO as in the paper, on the embedded digits, or as the demo."""

from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog

from soft_teacher.data.datasets.builtin import missing_dataset_hint, register_builtin
from soft_teacher.data.datasets.coco import coco_root
from soft_teacher.data.datasets.splits.families import FULL, split_name
from soft_teacher.demo.data import (
    DEMO_IMAGES,
    demo_datasets,
    demo_split,
    digits_files,
    make_digits,
    make_split,
)
from soft_teacher.runs.queue import say
from soft_teacher.runs.run import Run
from soft_teacher.utils.errors import ConfigError

from .recipes import (
    BURN_IN,
    DETECTORS,
    HTCPP,
    LAZY,
    SINGLE_STAGE,
    SOFT_TEACHER,
    SUPERVISED,
    Recipe,
)

__all__ = ["Benchmark", "Coco", "Demo", "Digits"]


class Benchmark:
    """Configs and data.

    Subclasses have ``data_files(split)``, the files that identify the data of a split, and
    ``prepare(runs)``, which makes the data of all runs or raises ConfigError if they are missing.
    """

    title: str
    folder: str  # of its runs, below the output folder
    configs: dict[str, str]  # Recipe.config -> name in the model zoo; others cannot be run
    family: str  # of the splits
    seeds: tuple[int, ...]  # by default, of the ablations; seed S learns from fold S + 1
    fold_seeds: tuple[int, ...]  # of the tables that the paper averages over folds

    def opts(self, recipe: Recipe, seed: int) -> list[str]:
        """Overrides of a recipe with one seed."""
        found = {"SEED": seed}
        if recipe.percent is not None:
            found["DATASETS.SPLIT.PERCENT"] = float(recipe.percent)
            found["DATASETS.SPLIT.FOLD"] = seed + 1
        found.update(recipe.opts)
        return [str(part) for item in found.items() for part in item]

    def split(self, recipe: Recipe, seed: int) -> str:
        """Name of the split that a run learns from."""
        return split_name(self.family if recipe.percent else FULL, recipe.percent, seed + 1)

    def start(self, recipe: Recipe) -> str | None:
        """Name of the recipe whose final weights a recipe starts from."""
        return None


class Digits(Benchmark):
    """A small replication: 10, 50 and 100 of 1,000 images have labels."""

    title = folder = "digits"
    configs = {kind: f"replication/{kind}.yaml" for kind in (BURN_IN, SUPERVISED, SOFT_TEACHER)}
    family = "without_replacement"
    seeds = fold_seeds = (0, 1, 2)
    data_files = staticmethod(digits_files)

    def start(self, recipe: Recipe) -> str | None:
        return None if recipe.config == BURN_IN else f"{BURN_IN}_{recipe.percent:g}p"

    def prepare(self, runs: Sequence[Run]) -> None:
        make_digits(say)
        wanted = [run.cfg.DATASETS.SPLIT for run in runs]
        for percent, fold in sorted({(split.PERCENT, split.FOLD) for split in wanted}):
            make_split(split_name(self.family, percent, fold), fold, percent=percent)
        register_builtin()


class Demo(Benchmark):
    """The demo with other detectors: 20 of 1,000 images are labeled, runs start from scratch."""

    title = folder = "demo"
    configs = {
        kind: f"demo/{kind}{'.py' if detector in LAZY else '.yaml'}"
        for detector in (*DETECTORS, *SINGLE_STAGE)
        for kind in (f"{detector}_{SUPERVISED}", f"{detector}_{SOFT_TEACHER}")
    }
    seeds = fold_seeds = (0, 1, 2)
    data_files = staticmethod(digits_files)

    def opts(self, recipe: Recipe, seed: int) -> list[str]:
        unlabeled = recipe.config.endswith(SOFT_TEACHER)
        return [*super().opts(recipe, seed), *demo_datasets(seed, unlabeled=unlabeled)]

    def split(self, recipe: Recipe, seed: int) -> str:
        return demo_split(seed)

    def prepare(self, runs: Sequence[Run]) -> None:
        make_digits(say)
        for seed in sorted({run.experiment["SEED"] for run in runs}):
            make_split(demo_split(seed), seed + 1, count=DEMO_IMAGES)
        register_builtin()


class Coco(Benchmark):
    """The paper's protocol, or the released code's variant of it."""

    family = "stac"
    seeds = (0,)
    fold_seeds = (0, 1, 2, 3, 4)

    def __init__(self, variant: str):
        self.title = f"COCO, {variant}"
        self.folder = f"coco/{variant}"
        names = {
            SUPERVISED: "faster_rcnn_R_50_FPN_partial_180k",
            SOFT_TEACHER: "soft_teacher_R_50_FPN_partial_180k",
            "supervised_full": "faster_rcnn_R_50_FPN_full_720k",
            "soft_teacher_full": "soft_teacher_R_50_FPN_full_720k",
            "supervised_full_R_101": "faster_rcnn_R_101_FPN_full_720k",
            "soft_teacher_full_R_101": "soft_teacher_R_101_FPN_full_720k",
        }
        self.configs = {kind: f"coco/{variant}/{name}.yaml" for kind, name in names.items()}
        if variant == "paper":  # the authors have released nothing of HTC++
            for kind in (SUPERVISED, SOFT_TEACHER):
                file = f"coco/{variant}/htcpp_swin_L_{kind}_full_720k.py"
                self.configs[f"{HTCPP}_{kind}"] = file

    def opts(self, recipe: Recipe, seed: int) -> list[str]:
        """See the base class. Raises ConfigError if there is no such fold."""
        if recipe.percent is not None and seed not in self.fold_seeds:
            raise ConfigError(
                f"--seeds {seed}: seed S learns from STAC's fold S + 1, and there are folds 1 to "
                f"{len(self.fold_seeds)}"
            )
        return super().opts(recipe, seed)

    def data_files(self, split: str) -> list[Path]:
        return [coco_root() / "splits" / f"{split}.json"]

    def prepare(self, runs: Sequence[Run]) -> None:
        annotations = coco_root() / "annotations" / "instances_train2017.json"
        if not annotations.is_file():
            raise ConfigError(
                f"COCO is missing, there is no {annotations}: set $DETECTRON2_DATASETS to the "
                "folder that holds coco/, see docs/coco.md"
            )
        register_builtin()
        for run in runs:
            for name in sum(run.experiment.train_names(), []):
                if name not in DatasetCatalog.list():
                    raise ConfigError(f"dataset '{name}' is missing{missing_dataset_hint(name)}")
