"""A run from a config, whatever its language: checked, trained, evaluated."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from functools import wraps
from typing import Any

from detectron2.engine import default_setup
from detectron2.utils import comm
from torch import nn

from ..data.datasets.builtin import register_builtin
from ..data.datasets.dataset_checks import check_datasets, describe_datasets
from ..data.datasets.dataset_dicts import TEACHER, as_list
from ..data.datasets.loading import loaded_once
from ..data.images.image import MAX_PIXELS
from ..data.multi_scale import MultiScale
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..evaluation.labeling import coco_categories
from ..modeling import SoftTeacher
from ..modeling.families.base import DetectorFamily
from ..utils.errors import ConfigError
from .class_file import write_classes
from .config_checks import check_run, check_values
from .logs import set_up_log
from .run_folder import run_folder
from .trained import Trained
from .words import YAML_WORDS, Words

__all__ = ["Experiment", "in_its_words"]

logger = logging.getLogger(__name__)


def in_its_words(method):
    """Decorates a method of an :class:`Experiment`: its messages name the keys of the config."""

    @wraps(method)
    def speaking(self, *args, **kwargs):
        with self.words.spoken():
            return method(self, *args, **kwargs)

    return speaking


class Experiment(ABC):
    """A config and what is done with it. Settings go by their YAML keys in either language.

    Attributes:
        cfg: the config itself, which may still be changed.
        words: translates messages into the config's language.
    """

    words: Words

    def __init__(self, cfg):
        self.cfg = cfg

    # --- what the languages differ in

    @abstractmethod
    def values(self, key: str) -> list[tuple[str, Any]]:
        """(name in the config, value) of each place that a YAML key represents."""

    @property
    @abstractmethod
    def family(self) -> type[DetectorFamily]:
        """Of the detector. Raises ConfigError for one that cannot be wrapped."""

    @abstractmethod
    def set(self, key: str, value: Any) -> None:
        """Changes the setting of a YAML key."""

    @abstractmethod
    def train_names(self) -> tuple[list[str], list[str]]:
        """Labeled and unlabeled datasets, whether or not the run uses the latter."""

    @abstractmethod
    def rehearse(self, *, eval_only: bool) -> None:
        """Builds all that is cheap to build, see :mod:`.config_checks`."""

    @abstractmethod
    def build_model(self) -> SoftTeacher: ...

    @abstractmethod
    def bare_model(self) -> SoftTeacher | None:
        """The model without memory, see :func:`.config_checks.rehearsed_model`."""

    @abstractmethod
    def build_run(self) -> Any:
        """What :meth:`train` needs of the datasets, which are read once for all."""

    @abstractmethod
    def train(self, run, *, resume: bool) -> dict:
        """Trains on this rank; returns the results of the last evaluation."""

    @abstractmethod
    def evaluate(self, model: nn.Module, multi_scale: MultiScale | None = None) -> dict:
        """Evaluates the networks that the config names.

        Args:
            multi_scale: the views of a multi-scale test; None for the view of :meth:`mapper`.
        """

    @abstractmethod
    def multi_scale(self) -> MultiScale | None:
        """The views of a multi-scale test; None if the config describes none."""

    @abstractmethod
    def mapper(self):
        """Makes the view that the config evaluates on."""

    def check_form(self, *, eval_only: bool) -> None:
        """Checks what the language itself leaves open."""

    # --- values

    def __getitem__(self, key: str) -> Any:
        """The first value of a YAML key; None if the config has none."""
        return next((value for _, value in self.values(key)), None)

    def categories(self) -> list[dict]:
        """COCO's categories of the loaded labeled datasets, in the order of the class numbers."""
        number = self[YAML_WORDS(self.family.num_classes_parameter)]
        return coco_categories(self.train_names()[0], number)

    @property
    def max_pixels(self) -> int:
        """The limit of an image's size."""
        return self["INPUT.MAX_PIXELS"] or MAX_PIXELS

    @in_its_words
    def dataset_names(self, *, eval_only: bool = False) -> dict[str, list[str]]:
        """What ``labeled``, ``unlabeled`` and ``test`` are: names or paths; empty if not used.

        Raises:
            ConfigError: for a run without data.
        """
        test = as_list(self["DATASETS.TEST"] or [])
        if eval_only:
            return {"labeled": [], "unlabeled": [], "test": test}
        labeled, unlabeled = self.train_names()
        if not labeled:
            raise ConfigError("labeled_names is empty: name a dataset with labels")
        if self["SOFT_TEACHER.LABELED_SHARE"] == 1:
            unlabeled = []
        elif not unlabeled:
            raise ConfigError(
                "unlabeled_names is empty: name a dataset, or set BatchSchedule.share to 1 for the "
                "supervised baseline"
            )
        return {"labeled": labeled, "unlabeled": unlabeled, "test": test}

    # --- checks

    def check(self, *, eval_only: bool) -> list[str]:
        """Everything that can be known to be wrong before the model is built.

        Returns:
            what is worth a warning.

        Raises:
            ConfigError: naming the key and the fix.
        """
        return self.check_settings(eval_only=eval_only) + self.check_data(eval_only=eval_only)

    @in_its_words
    def check_settings(self, *, eval_only: bool) -> list[str]:
        """The part of :meth:`check` that reads no dataset."""
        self.check_form(eval_only=eval_only)
        check_values(self, eval_only=eval_only)
        warnings = check_run(self, eval_only=eval_only)
        self.dataset_names(eval_only=eval_only)
        self.rehearse(eval_only=eval_only)
        return list(map(self.words, warnings))

    @in_its_words
    def check_data(self, *, eval_only: bool) -> list[str]:
        """The part of :meth:`check` that reads the datasets."""
        parameter = self.family.num_classes_parameter
        lines = check_datasets(
            **self.dataset_names(eval_only=eval_only),
            num_classes=self[YAML_WORDS(parameter)],
            label_source=self["SOFT_TEACHER.LABEL_SOURCE"] or TEACHER,
            classes_key=parameter,
            mask_format=self["INPUT.MASK_FORMAT"] or "polygon" if self["MODEL.MASK_ON"] else None,
        )
        return list(map(self.words, lines))

    # --- runs

    @in_its_words
    def main(self, args) -> dict:
        """Trains or evaluates on this rank.

        Args:
            args: of Detectron2's default_argument_parser.

        Returns:
            results of the last evaluation.

        Raises:
            ConfigError: before training starts.
        """
        warnings = self.check_settings(eval_only=args.eval_only)
        how = {"resume": args.resume, "eval_only": args.eval_only}
        with run_folder(self["OUTPUT_DIR"], key=self.words("output_dir"), **how) as more:
            with loaded_once(masks=bool(self["MODEL.MASK_ON"])):
                run = self._prepare(args, warnings + more)
            if args.eval_only:
                multi_scale = self.multi_scale() if self["TEST.AUG.ENABLED"] else None
                return self.evaluate(self.load_model(resume=args.resume), multi_scale)
            return self.train(run, resume=args.resume)

    def _prepare(self, args, warnings: list[str]):
        """All that needs the datasets, in a folder that may be written to."""
        register_builtin()
        warnings += self.check_data(eval_only=args.eval_only)
        if self["SEED"] < 0:
            self.set("SEED", comm.shared_random_seed() % 2**31)
        default_setup(self.cfg, args)
        set_up_log(self["OUTPUT_DIR"])
        for line in describe_datasets(**self.dataset_names(eval_only=args.eval_only)):
            logger.info(line)
        for warning in warnings:
            logger.warning(warning)
        if args.eval_only:
            return None
        if comm.is_main_process():
            write_classes(self["OUTPUT_DIR"], self.categories())
        return self.build_run()

    def load_model(self, *, resume: bool = False) -> SoftTeacher:
        """The model with all of its weights."""
        model = self.build_model()
        checkpointer = SoftTeacherCheckpointer(model, self["OUTPUT_DIR"], complete=True)
        checkpointer.resume_or_load(self["MODEL.WEIGHTS"], resume=resume)
        return model

    @in_its_words
    def load_trained(self, *, weights: str = "") -> Trained:
        """The model with all of its weights, as ``--eval-only`` loads it, and its view.

        Args:
            weights: in place of those that the config names.

        Raises:
            ConfigError: naming the key and the fix.
        """
        self.check_form(eval_only=True)
        check_values(self, eval_only=True)
        self.rehearse(eval_only=True)
        mapper = self.mapper()
        if weights:
            self.set("MODEL.WEIGHTS", weights)
        return Trained(
            model=self.load_model().eval(),
            weights=self["MODEL.WEIGHTS"],
            mapper=mapper,
            num_workers=self["DATALOADER.NUM_WORKERS"] or 0,
        )
