"""train_net.py for LazyConfig files (.py)."""

import copy
import logging
from typing import Dict, List, Tuple

from detectron2.config import instantiate
from detectron2.engine import default_setup
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from omegaconf import OmegaConf

from ..data.datasets.builtin import register_builtin
from ..data.datasets.dataset_dicts import TEACHER, as_list, check_datasets, describe_datasets
from ..data.datasets.loading import loaded_once
from ..data.images.image import MAX_PIXELS
from ..data.mapper import InferenceMapper
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..utils.errors import ConfigError
from .config_checks import (
    Settings,
    check_parts,
    check_run,
    check_values,
    rehearsal,
    rehearsed_model,
)
from .config_keys import VIEWS
from .lazy_config import (
    check_arguments,
    check_keys,
    check_sections,
    family_in,
    load_config,
    values_of,
)
from .lazy_train import build_ema, build_optimizer, evaluate, test_names, train
from .lazy_words import in_lazy_words, policy_of, speaks_lazy
from .logs import set_up_log
from .run_folder import run_folder
from .trained import Trained

SECTIONS = ("model", "dataloader", "dataloader.train", "dataloader.test", "dataloader.test.dataset")
SECTIONS += ("optimizer", "lr_multiplier", "ema", "train")
__all__ = [
    "check_config",
    "check_settings",
    "dataset_names",
    "load_config",
    "load_trained",
    "main",
    "max_pixels",
    "train_names",
]

logger = logging.getLogger(__name__)


@speaks_lazy
def check_config(cfg, *, eval_only: bool) -> List[str]:
    """Everything that can be known to be wrong before the model is built.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    return check_settings(cfg, eval_only=eval_only) + _check_datasets(cfg, eval_only=eval_only)


@speaks_lazy
def check_settings(cfg, *, eval_only: bool) -> List[str]:
    """The part of :func:`check_config` that reads no dataset."""
    check_sections(cfg, SECTIONS)
    check_keys(cfg)
    if not eval_only:
        check_arguments(cfg, "dataloader.train")
    settings = _settings(cfg)
    check_values(settings, eval_only=eval_only)
    warnings = check_run(settings, eval_only=eval_only)
    dataset_names(cfg, eval_only=eval_only)
    _rehearse(cfg, settings, eval_only=eval_only)
    return [in_lazy_words(warning) for warning in warnings]


def _check_datasets(cfg, *, eval_only: bool) -> List[str]:
    names = dataset_names(cfg, eval_only=eval_only)
    settings = _settings(cfg)
    key = settings.family.num_classes_key
    lines = check_datasets(
        **names,
        num_classes=settings[key],
        label_source=settings["SOFT_TEACHER.LABEL_SOURCE"] or TEACHER,
        classes_key=key,
    )
    return [in_lazy_words(line) for line in lines]


@speaks_lazy
def dataset_names(cfg, *, eval_only: bool = False) -> Dict[str, List[str]]:
    """What ``labeled``, ``unlabeled`` and ``test`` are: names or paths; empty if not used."""
    labeled, unlabeled = ([], []) if eval_only else train_names(cfg)
    if cfg.dataloader.train.labeled_share == 1:
        unlabeled = []
    return {"labeled": labeled, "unlabeled": unlabeled, "test": test_names(cfg)}


@speaks_lazy
def train_names(cfg) -> Tuple[List[str], List[str]]:
    """Labeled and unlabeled datasets, whether or not the training uses the latter.

    Raises:
        ConfigError: there is no section of data.
    """
    check_sections(cfg, ["dataloader"])
    loader = cfg.dataloader.train
    return as_list(loader.labeled_names), as_list(loader.unlabeled_names)


def max_pixels(cfg) -> int:
    """The limit of an image's size, for those who read images without a model."""
    return _settings(cfg)["INPUT.MAX_PIXELS"] or MAX_PIXELS


@speaks_lazy
def load_trained(cfg, *, weights: str = "") -> Trained:
    """The same as :func:`soft_teacher.experiment.yaml_entry.load_trained`."""
    check_sections(cfg, SECTIONS)
    settings = _settings(cfg)
    check_values(settings, eval_only=True)
    _rehearse(cfg, settings, eval_only=True)
    loader = cfg.dataloader.test
    if loader.get("mapper") is None:
        raise ConfigError("the LazyConfig has no dataloader.test.mapper")
    mapper = InferenceMapper(
        augmentations=instantiate(loader.mapper.augmentations),
        image_format=loader.mapper.image_format,
        max_pixels=loader.mapper.get("max_pixels", MAX_PIXELS),
    )
    cfg.train.init_checkpoint = weights or cfg.train.init_checkpoint
    return Trained(
        model=_load_model(cfg).eval(),
        weights=cfg.train.init_checkpoint,
        mapper=mapper,
        num_workers=loader.get("num_workers", 0),
    )


@speaks_lazy
def main(args):
    """Trains or evaluates on this rank. See :func:`soft_teacher.experiment.yaml_entry.main`."""
    cfg = load_config(args.config_file, args.opts)
    warnings = check_settings(cfg, eval_only=args.eval_only)
    how = {"resume": args.resume, "eval_only": args.eval_only}
    with run_folder(cfg.train.get("output_dir"), key="train.output_dir", **how) as more:
        return _main(cfg, args, warnings + more)


def _main(cfg, args, warnings: List[str]):
    """The same in a folder that may be written to."""
    register_builtin()
    with loaded_once():
        warnings += _check_datasets(cfg, eval_only=args.eval_only)
        if cfg.train.seed < 0:
            cfg.train.seed = comm.shared_random_seed() % 2**31
        default_setup(cfg, args)
        set_up_log(cfg.train.output_dir)
        for line in describe_datasets(**dataset_names(cfg, eval_only=args.eval_only)):
            logger.info(in_lazy_words(line))
        for warning in warnings:
            logger.warning(warning)
        loader = None if args.eval_only else instantiate(cfg.dataloader.train)
    if args.eval_only:
        return evaluate(cfg, _load_model(cfg, resume=args.resume))
    return train(cfg, _build_model(cfg), loader, resume=args.resume)


def _settings(cfg) -> Settings:
    return Settings(lambda key: values_of(cfg, key), family_in(cfg))


def _rehearse(cfg, settings: Settings, *, eval_only: bool) -> None:
    """Builds all that is cheap to build; see :mod:`.config_checks`."""
    cfg = copy.deepcopy(cfg)
    model = rehearsed_model(lambda: instantiate(cfg.model))
    with rehearsal("dataloader.test.mapper"):
        instantiate(cfg.dataloader.test.get("mapper"))
    if eval_only:
        return
    for view in VIEWS:
        with rehearsal(view), policy_of(view):
            instantiate(OmegaConf.select(cfg, view))
    if model is not None:
        with rehearsal("optimizer"):
            optimizer = build_optimizer(cfg, model)
        with rehearsal("lr_multiplier"):
            LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)
        with rehearsal("ema"):
            build_ema(cfg, model)
        with rehearsal("what watches over the training"):
            check_parts(model, settings)


def _build_model(cfg):
    return instantiate(cfg.model).to(cfg.train.device)


def _load_model(cfg, *, resume: bool = False):
    model = _build_model(cfg)
    checkpointer = SoftTeacherCheckpointer(model, cfg.train.output_dir, complete=True)
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    return model
