"""train_net.py for YAML configs (CfgNode)."""

import logging
from typing import Dict, List

from detectron2.engine import default_setup
from detectron2.modeling import build_model
from detectron2.utils import comm

from ..data.datasets.builtin import register_builtin
from ..data.datasets.dataset_dicts import check_datasets, describe_datasets, train_names
from ..data.datasets.loading import loaded_once
from ..data.mapper import InferenceMapper
from ..data.streams.loader import build_two_stream_train_loader
from ..engine.checkpoint import SoftTeacherCheckpointer
from ..modeling.families.base import family_of
from ..utils.errors import ConfigError
from .config_checks import (
    Settings,
    check_parts,
    check_run,
    check_values,
    rehearsal,
    rehearsed_model,
)
from .logs import set_up_log
from .run_folder import run_folder
from .trained import Trained
from .trainer import SoftTeacherTrainer
from .yaml_config import load_config, value_of

__all__ = [
    "check_config",
    "check_settings",
    "dataset_names",
    "load_config",
    "load_trained",
    "main",
    "max_pixels",
    "train_names",
    "value_of",
]

logger = logging.getLogger(__name__)


def check_config(cfg, *, eval_only: bool) -> List[str]:
    """Everything that can be known to be wrong before the model is built.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    return check_settings(cfg, eval_only=eval_only) + _check_datasets(cfg, eval_only=eval_only)


def check_settings(cfg, *, eval_only: bool) -> List[str]:
    """The part of :func:`check_config` that reads no dataset."""
    if not eval_only and cfg.SOLVER.REFERENCE_WORLD_SIZE > 0:
        with rehearsal("SOLVER.REFERENCE_WORLD_SIZE"):
            cfg = SoftTeacherTrainer.auto_scale_workers(cfg, comm.get_world_size())
    settings = _settings(cfg)
    check_values(settings, eval_only=eval_only)
    warnings = check_run(settings, eval_only=eval_only)
    dataset_names(cfg, eval_only=eval_only)
    _rehearse(cfg, settings, eval_only=eval_only)
    return warnings


def _check_datasets(cfg, *, eval_only: bool) -> List[str]:
    names = dataset_names(cfg, eval_only=eval_only)
    settings = _settings(cfg)
    key = settings.family.num_classes_key
    return check_datasets(
        **names,
        num_classes=settings[key],
        label_source=cfg.SOFT_TEACHER.LABEL_SOURCE,
        classes_key=key,
    )


def dataset_names(cfg, *, eval_only: bool = False) -> Dict[str, List[str]]:
    """What ``labeled``, ``unlabeled`` and ``test`` are: names or paths; empty if not used.

    Raises:
        ConfigError: for a training without data.
    """
    test = list(cfg.DATASETS.TEST)
    if eval_only:
        return {"labeled": [], "unlabeled": [], "test": test}
    labeled, unlabeled = train_names(cfg)
    if not labeled:
        raise ConfigError("DATASETS.TRAIN_LABELED is empty: name a dataset with labels")
    if cfg.SOFT_TEACHER.LABELED_SHARE == 1:
        unlabeled = []
    elif not unlabeled:
        raise ConfigError(
            "DATASETS.TRAIN_UNLABELED is empty: name a dataset, or set SOFT_TEACHER.LABELED_SHARE "
            "to 1 for the supervised baseline"
        )
    return {"labeled": labeled, "unlabeled": unlabeled, "test": test}


def max_pixels(cfg) -> int:
    """The limit of an image's size, for those who read images without a model."""
    return cfg.INPUT.MAX_PIXELS


def load_trained(cfg, *, weights: str = "") -> Trained:
    """The model of a config with all of its weights, as ``--eval-only`` loads it.

    Args:
        weights: in place of MODEL.WEIGHTS.

    Raises:
        ConfigError: naming the key and the fix.
    """
    settings = _settings(cfg)
    check_values(settings, eval_only=True)
    _rehearse(cfg, settings, eval_only=True)
    cfg.MODEL.WEIGHTS = weights or cfg.MODEL.WEIGHTS
    return Trained(
        model=_load_model(cfg).eval(),
        weights=cfg.MODEL.WEIGHTS,
        mapper=InferenceMapper(cfg),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )


def main(args):
    """Trains or evaluates on this rank.

    Args:
        args: of Detectron2's default_argument_parser.

    Returns:
        results of the last evaluation.

    Raises:
        ConfigError: before training starts.
    """
    cfg = load_config(args.config_file, args.opts)
    warnings = check_settings(cfg, eval_only=args.eval_only)
    how = {"resume": args.resume, "eval_only": args.eval_only}
    with run_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR", **how) as more:
        return _main(cfg, args, warnings + more)


def _main(cfg, args, warnings: List[str]):
    """The same in a folder that may be written to."""
    register_builtin()
    with loaded_once():
        warnings += _check_datasets(cfg, eval_only=args.eval_only)
        if cfg.SEED < 0:
            cfg.SEED = comm.shared_random_seed() % 2**31
        cfg.freeze()
        default_setup(cfg, args)
        set_up_log(cfg.OUTPUT_DIR)
        for line in describe_datasets(**dataset_names(cfg, eval_only=args.eval_only)):
            logger.info(line)
        for warning in warnings:
            logger.warning(warning)
        trainer = None if args.eval_only else SoftTeacherTrainer(cfg)
    if args.eval_only:
        return SoftTeacherTrainer.test(cfg, _load_model(cfg, resume=args.resume))
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def _settings(cfg) -> Settings:
    return Settings(lambda key: [(key, value_of(cfg, key))], family_of(cfg.SOFT_TEACHER.DETECTOR))


def _rehearse(cfg, settings: Settings, *, eval_only: bool) -> None:
    """Builds all that is cheap to build; see :mod:`.config_checks`."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    model = rehearsed_model(lambda: build_model(cfg))
    with rehearsal("the loader"):
        InferenceMapper(cfg)
    if eval_only:
        return
    with rehearsal("the loader"):
        build_two_stream_train_loader.from_config(cfg)
    if model is not None:
        with rehearsal("the optimizer"):
            optimizer = SoftTeacherTrainer.build_optimizer(cfg, model)
        with rehearsal("the schedule of the learning rate"):
            SoftTeacherTrainer.build_lr_scheduler(cfg, optimizer)
        with rehearsal("what watches over the training"):
            SoftTeacherTrainer.build_ema(cfg, model)
            check_parts(model, settings)


def _load_model(cfg, *, resume: bool = False):
    model = SoftTeacherTrainer.build_model(cfg)
    checkpointer = SoftTeacherCheckpointer(model, cfg.OUTPUT_DIR, complete=True)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    return model
