"""train_net.py for LazyConfig files (.py)."""

import inspect
import logging
import os
from typing import Dict, List, Tuple

from detectron2.config import LazyConfig, instantiate
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from ..data.builtin import register_builtin
from ..data.datasets import as_list, check_datasets
from ..data.loading import loaded_once
from ..data.mapper import InferenceMapper
from ..environment import naming_broken_packages
from ..errors import ConfigError, did_you_mean
from ..evaluation.evaluate import check_networks
from ..modeling import BoxJitter
from .build import check_amp
from .checkpoint import SoftTeacherCheckpointer
from .device import usable_device
from .lazy_train import evaluate, test_names, train
from .logs import set_up_log
from .run_folder import run_folder
from .trained import Trained
from .wandb_writer import check_wandb

SECTIONS = ("model", "dataloader", "optimizer", "lr_multiplier", "ema", "train")
__all__ = [
    "check_config",
    "dataset_names",
    "load_config",
    "load_trained",
    "main",
    "train_names",
]

logger = logging.getLogger(__name__)


def load_config(config_file: str, overrides=()):
    """The config of a LazyConfig file with ``key=value ...`` overrides.

    Raises:
        ConfigError: for a missing file, a malformed override or an unknown key.
    """
    if not os.path.isfile(config_file):
        raise ConfigError(f"--config-file '{config_file}' does not exist")
    cfg = LazyConfig.load(config_file)
    for override in overrides:
        key, sep, _ = override.partition("=")
        if not sep or not key:
            raise ConfigError(f"override '{override}' is not of the form key=value")
        if not _is_known(cfg, key):
            raise ConfigError(f"unknown config key {key}{did_you_mean(key, _keys(cfg))}")
    with naming_broken_packages():
        import hydra.core.override_parser.overrides_parser  # noqa: F401  an old one cannot
    try:
        cfg = LazyConfig.apply_overrides(cfg, list(overrides))
    except Exception as error:  # hydra's parser and omegaconf raise kinds of their own
        raise ConfigError(" ".join(str(error).split())) from error
    _check_sections(cfg, ["train"])
    cfg.train.device = usable_device(cfg.train.device)
    return cfg


def check_config(cfg, *, eval_only: bool) -> List[str]:
    """Everything that can be known to be wrong before the model is built.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    _check_sections(cfg, SECTIONS)
    check_networks(cfg.train.eval_networks)
    if not eval_only:
        check_wandb(cfg.train.watch.wandb.project)
        check_amp(cfg.train.amp.enabled, cfg.train.amp.precision, cfg.train.device)
    names = dataset_names(cfg, eval_only=eval_only)
    return check_datasets(**names, num_classes=cfg.model.student.roi_heads.num_classes)


def dataset_names(cfg, *, eval_only: bool = False) -> Dict[str, List[str]]:
    """What ``labeled``, ``unlabeled`` and ``test`` are: names or paths; empty if not used."""
    labeled, unlabeled = ([], []) if eval_only else train_names(cfg)
    if cfg.dataloader.train.labeled_share == 1:
        unlabeled = []
    return {"labeled": labeled, "unlabeled": unlabeled, "test": test_names(cfg)}


def train_names(cfg) -> Tuple[List[str], List[str]]:
    """Labeled and unlabeled datasets, whether or not the training uses the latter.

    Raises:
        ConfigError: there is no section of data.
    """
    _check_sections(cfg, ["dataloader"])
    loader = cfg.dataloader.train
    return as_list(loader.labeled_names), as_list(loader.unlabeled_names)


def load_trained(cfg, *, weights: str = "") -> Trained:
    """The same as :func:`soft_teacher.engine.yaml_entry.load_trained`.

    A config that sets ``model.pseudo_labeler.jitter`` to None has no settings of the box jitter;
    its defaults, the paper's, stand for them.
    """
    _check_sections(cfg, SECTIONS)
    loader = cfg.dataloader.test
    if loader.get("mapper") is None:
        raise ConfigError("the LazyConfig has no dataloader.test.mapper")
    mapper = InferenceMapper(
        augmentations=instantiate(loader.mapper.augmentations),
        image_format=loader.mapper.image_format,
    )
    cfg.train.init_checkpoint = weights or cfg.train.init_checkpoint
    model = _load_model(cfg).eval()
    return Trained(
        model=model,
        weights=cfg.train.init_checkpoint,
        mapper=mapper,
        num_workers=loader.get("num_workers", 0),
        jitter=model.pseudo_labeler.jitter or BoxJitter(),
    )


def main(args):
    """Trains or evaluates on this rank. See :func:`soft_teacher.engine.yaml_entry.main`."""
    cfg = load_config(args.config_file, args.opts)
    how = {"resume": args.resume, "eval_only": args.eval_only}
    with run_folder(cfg.train.get("output_dir"), key="train.output_dir", **how) as warnings:
        return _main(cfg, args, warnings)


def _main(cfg, args, warnings: List[str]):
    """The same in a folder that may be written to."""
    register_builtin()
    with loaded_once():
        warnings += check_config(cfg, eval_only=args.eval_only)
        if cfg.train.seed < 0:
            cfg.train.seed = comm.shared_random_seed() % 2**31
        default_setup(cfg, args)
        set_up_log(cfg.train.output_dir)
        for warning in warnings:
            logger.warning(warning)
        loader = None if args.eval_only else instantiate(cfg.dataloader.train)
    if args.eval_only:
        return evaluate(cfg, _load_model(cfg, resume=args.resume))
    return train(cfg, _build_model(cfg), loader, resume=args.resume)


def _build_model(cfg):
    return instantiate(cfg.model).to(cfg.train.device)


def _load_model(cfg, *, resume: bool = False):
    model = _build_model(cfg)
    checkpointer = SoftTeacherCheckpointer(model, cfg.train.output_dir, complete=True)
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    return model


def _is_known(cfg, key: str) -> bool:
    """Whether a key is there, or is an argument of the object that its parent describes."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent, default=None) if parent else cfg
    if not OmegaConf.is_dict(node):
        return OmegaConf.select(cfg, key, default=None) is not None
    if name in node.keys():
        return True
    target = node.get("_target_")
    if target is None:
        return False
    target = locate(target) if isinstance(target, str) else target
    return name in inspect.signature(target).parameters


def _check_sections(cfg, sections) -> None:
    for section in sections:
        if not OmegaConf.is_dict(cfg.get(section)):
            raise ConfigError(f"the LazyConfig has no section '{section}'")


def _keys(cfg, prefix=""):
    for key in cfg.keys():
        yield prefix + key
        value = cfg._get_node(key)
        if OmegaConf.is_dict(value):
            yield from _keys(value, f"{prefix}{key}.")
