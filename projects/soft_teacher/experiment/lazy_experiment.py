"""Runs from LazyConfig files (.py), on the parts that YAML trains with, too."""

from __future__ import annotations

import copy
import weakref
from typing import Any

from detectron2.config import LazyCall, get_cfg, instantiate
from detectron2.data import DatasetMapper
from detectron2.engine import hooks
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from omegaconf import OmegaConf

from ..data.datasets.dataset_dicts import as_list, class_names
from ..data.images.image import MAX_PIXELS
from ..data.mapper import InferenceMapper
from ..data.multi_scale import MultiScale
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..engine.identity import flat
from ..evaluation.evaluate import build_evaluator, evaluate_networks, results_folder
from ..modeling import SoftTeacher
from ..utils.errors import ConfigError
from ..utils.folders import room_for_results
from .build import build_hooks, build_train_loop, run_identity
from .config_checks import check_monitors, rehearsal, rehearsed_model
from .experiment import Experiment, in_its_words
from .lazy_config import (
    check_arguments,
    check_keys,
    check_sections,
    family_in,
    is_known,
    load_config,
    values_of,
)
from .setting import VIEWS
from .settings import free_paths
from .train_settings import TrainSettings
from .words import LAZY_WORDS, policy_of

__all__ = ["LazyExperiment"]

SECTIONS = ("model", "dataloader", "dataloader.train", "dataloader.test", "dataloader.test.dataset")
SECTIONS += ("optimizer", "lr_multiplier", "ema", "train")


class LazyExperiment(Experiment):
    """A run from a LazyConfig with the sections of ``configs/demo/base.py``."""

    words = LAZY_WORDS

    @classmethod
    def load(cls, config_file: str, overrides=()) -> LazyExperiment:
        """From a file with ``key=value`` overrides; see :func:`.lazy_config.load_config`."""
        return cls(load_config(config_file, overrides))

    def values(self, key: str) -> list[tuple[str, Any]]:
        return values_of(self.cfg, key)

    def set(self, key: str, value: Any) -> None:
        for path, _ in self.values(key):
            OmegaConf.update(self.cfg, path, value)

    @property
    def family(self):
        return family_in(self.cfg)

    @in_its_words
    def train_names(self) -> tuple[list[str], list[str]]:
        check_sections(self.cfg, ["dataloader"])
        loader = self.cfg.dataloader.train
        return as_list(loader.labeled_names), as_list(loader.unlabeled_names)

    def mapper(self) -> InferenceMapper:
        mapper = self.cfg.dataloader.test.get("mapper")
        if mapper is None:
            raise ConfigError("the LazyConfig has no dataloader.test.mapper")
        return InferenceMapper(
            augmentations=instantiate(mapper.augmentations),
            image_format=mapper.image_format,
            max_pixels=mapper.get("max_pixels", MAX_PIXELS),
        )

    def check_form(self, *, eval_only: bool) -> None:
        check_sections(self.cfg, SECTIONS)
        check_keys(self.cfg)
        if not eval_only:
            check_arguments(self.cfg, "dataloader.train")

    def rehearse(self, *, eval_only: bool) -> None:
        """See the base class; works on a copy, since building fills in the config."""
        rehearsed = LazyExperiment(copy.deepcopy(self.cfg))
        cfg = rehearsed.cfg
        model = rehearsed.bare_model()
        with rehearsal("dataloader.test.mapper"):
            instantiate(cfg.dataloader.test.get("mapper"))
        with rehearsal("dataloader.test_aug"):
            self.multi_scale()
        if eval_only:
            return
        for view in VIEWS:
            with rehearsal(view), policy_of(view):
                instantiate(OmegaConf.select(cfg, view))
        if model is not None:
            check_loader(model, cfg.dataloader.train)
            with rehearsal("optimizer"):
                optimizer = rehearsed.build_optimizer(model)
            with rehearsal("lr_multiplier"):
                LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)
            with rehearsal("ema"):
                rehearsed.build_ema(model)
            with rehearsal("the monitors of the run"):
                check_monitors(model, self)

    def build_model(self):
        return instantiate(self.cfg.model).to(self.cfg.train.device)

    def bare_model(self):
        cfg = copy.deepcopy(self.cfg)
        return rehearsed_model(lambda: instantiate(cfg.model))

    def build_optimizer(self, model):
        """The optimizer of ``optimizer``, with Detectron2's gradient clipping if that is wanted."""
        self.cfg.optimizer.params.model = model
        solver = get_cfg()
        clipping = {key.upper(): value for key, value in self.cfg.train.clip_gradients.items()}
        solver.SOLVER.CLIP_GRADIENTS.update(clipping)
        return maybe_add_gradient_clipping(solver, instantiate(self.cfg.optimizer))

    def build_ema(self, model):
        """The hook of ``ema``, which updates the teacher of a SoftTeacher."""
        self.cfg.ema.student, self.cfg.ema.teacher = model.student, model.teacher
        return instantiate(self.cfg.ema)

    def build_run(self):
        """The loader of ``dataloader.train``."""
        return instantiate(self.cfg.dataloader.train)

    def train(self, run, *, resume: bool) -> dict:
        cfg, loader, model = self.cfg, run, self.build_model()
        settings = TrainSettings.of(self.__getitem__, log_period=cfg.train.log_period)
        optimizer, ema = self.build_optimizer(model), self.build_ema(model)
        loop = build_train_loop(model, loader, optimizer, settings)
        values = flat(OmegaConf.to_container(cfg, resolve=True), without=free_paths())
        checkpointer = SoftTeacherCheckpointer(
            model,
            settings.output_dir,
            identity=run_identity(values, loader, settings.resume_changed),
            save_to_disk=comm.is_main_process(),
            trainer=weakref.proxy(loop),
        )
        results = {}

        def evaluate():
            results.update(self.evaluate(model))
            return results

        loop.register_hooks(
            build_hooks(
                settings,
                loop=loop,
                ema=ema,
                checkpointer=checkpointer,
                evaluate=evaluate,
                class_names=class_names(self.train_names()[0]),
                test_mapper=instantiate(mapper_of(cfg)),
                scheduler=hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            )
        )
        checkpointer.resume_or_load(settings.weights, resume=resume)
        start = loop.iter + 1 if resume and checkpointer.has_checkpoint() else 0
        loop.train(start, settings.max_iter)
        return results

    def multi_scale(self) -> MultiScale | None:
        settings = OmegaConf.to_container(self.cfg.dataloader.get("test_aug") or OmegaConf.create())
        settings.pop("enabled", None)
        return MultiScale(**settings) if settings else None

    def evaluate(self, model, multi_scale=None) -> dict:
        """Evaluates the networks of ``train.eval_networks`` on the test datasets."""
        cfg = self.cfg
        with room_for_results(cfg.train.output_dir):
            return evaluate_networks(
                model,
                networks=cfg.train.eval_networks,
                datasets=self.dataset_names(eval_only=True)["test"],
                build_loader=lambda name: instantiate(
                    loader_for(cfg, name, whole=multi_scale is not None)
                ),
                build_evaluator=lambda name, network: build_evaluator(
                    name, lambda read_as: instantiate(evaluator_for(cfg, name, read_as, network))
                ),
                multi_scale=multi_scale,
            )


def check_loader(model: SoftTeacher, loader) -> None:
    """Raises ConfigError unless model and ``dataloader.train`` agree on what is learned."""
    wanted = model.family.has_masks(model.student)
    if loader.get("masks", False) != wanted:
        has = "has a mask head" if wanted else "has no mask head"
        raise ConfigError(f"model.student {has}: set dataloader.train.masks to {wanted}")
    classes = model.family.semantic_classes(model.student)
    instantiate(loader.get("instance_paste"))
    maps = instantiate(loader.get("semantic_maps"))
    if classes != (maps.num_classes if maps else 0):
        has = f"learns {classes} classes" if classes else "is None"
        given = f"has {maps.num_classes}" if maps else "is None"
        raise ConfigError(
            f"HTCROIHeads.semantic_head {has} and TwoStreamLoader.semantic_maps {given}: give both "
            "as many classes, or set both to None"
        )


def evaluator_for(cfg, name: str, read_as: str, network: str):
    """``dataloader.evaluator`` for a dataset, with a folder of its own where it can have one.

    Masks are found in the predictions, not in ``tasks``: the dataset may have none.
    """
    found = OmegaConf.merge(cfg.dataloader.evaluator, {"dataset_name": read_as})
    if "segm" in (found.get("tasks") or ()):
        found.tasks = None
    if found.get("output_dir") is None and is_known(found, "output_dir"):
        found.output_dir = results_folder(cfg.train.output_dir, network, name)
    return found


def loader_for(cfg, name: str, *, whole: bool = False):
    """``dataloader.test`` for a dataset; of whole images in the place of their views, likewise."""
    loader = cfg.dataloader.test.copy()
    loader.dataset.names = name
    if "mapper" in loader:
        loader.mapper = mapper_of(cfg)
    if whole:
        loader.mapper.augmentations = []
    return loader


def mapper_of(cfg):
    """``dataloader.test.mapper``; Detectron2's own, which may raise, becomes ours."""
    mapper = cfg.dataloader.test.get("mapper")
    if type(instantiate(mapper)) is not DatasetMapper:
        return mapper
    return LazyCall(InferenceMapper)(
        augmentations=mapper.augmentations, image_format=mapper.image_format
    )
