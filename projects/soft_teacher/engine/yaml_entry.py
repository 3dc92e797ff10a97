"""train_net.py for YAML configs (CfgNode)."""

import ast
import logging
import os
from typing import Dict, List, Sequence

from detectron2.config import get_cfg
from detectron2.data.detection_utils import build_augmentation
from detectron2.engine import default_setup
from detectron2.utils import comm

from ..config import add_soft_teacher_config
from ..data.builtin import register_builtin
from ..data.datasets import check_datasets, train_names
from ..data.loading import loaded_once
from ..data.mapper import InferenceMapper
from ..errors import ConfigError, did_you_mean
from ..evaluation.evaluate import check_networks
from ..modeling import BoxJitter
from .build import check_amp
from .checkpoint import SoftTeacherCheckpointer
from .device import usable_device
from .logs import set_up_log
from .run_folder import run_folder
from .trained import Trained
from .trainer import SoftTeacherTrainer
from .wandb_writer import check_wandb

__all__ = [
    "check_config",
    "dataset_names",
    "load_config",
    "load_trained",
    "main",
    "train_names",
    "value_of",
]

logger = logging.getLogger(__name__)


def load_config(config_file: str, opts=()):
    """The config of a YAML file with ``KEY VALUE ...`` overrides.

    Raises:
        ConfigError: for a missing file, an unknown key or a value of the wrong type.
    """
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    if not os.path.isfile(config_file):
        raise ConfigError(f"--config-file '{config_file}' does not exist")
    known = cfg.clone()
    try:
        # YAML tags can run code; plain values are all a config needs.
        cfg.merge_from_file(config_file, allow_unsafe=False)
        cfg.merge_from_list(_with_types(opts, cfg))
    except Exception as error:  # yacs and the YAML reader raise many kinds
        raise ConfigError(_explain(error, known, config_file)) from error
    cfg.MODEL.DEVICE = usable_device(cfg.MODEL.DEVICE)
    return cfg


def check_config(cfg, *, eval_only: bool) -> List[str]:
    """Everything that can be known to be wrong before the model is built.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    _check_architecture(cfg)
    check_networks(cfg.SOFT_TEACHER.EVAL_NETWORKS)
    if not eval_only:
        check_wandb(cfg.SOFT_TEACHER.WATCH.WANDB.PROJECT)
        check_amp(cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.PRECISION, cfg.MODEL.DEVICE)
    names = dataset_names(cfg, eval_only=eval_only)
    return check_datasets(**names, num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES)


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


def value_of(cfg, key: str):
    """The value of a dotted key; None if the config has no such key."""
    for name in key.split("."):
        cfg = cfg.get(name) if hasattr(cfg, "get") else None
    return cfg


def load_trained(cfg, *, weights: str = "") -> Trained:
    """The model of a config with all of its weights, as ``--eval-only`` loads it.

    Args:
        weights: in place of MODEL.WEIGHTS.

    Raises:
        ConfigError: naming the key and the fix.
    """
    _check_architecture(cfg)
    cfg.MODEL.WEIGHTS = weights or cfg.MODEL.WEIGHTS
    mapper = InferenceMapper(
        augmentations=build_augmentation(cfg, is_train=False), image_format=cfg.INPUT.FORMAT
    )
    return Trained(
        model=_load_model(cfg).eval(),
        weights=cfg.MODEL.WEIGHTS,
        mapper=mapper,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        jitter=BoxJitter(cfg),
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
    how = {"resume": args.resume, "eval_only": args.eval_only}
    with run_folder(cfg.OUTPUT_DIR, key="OUTPUT_DIR", **how) as warnings:
        return _main(cfg, args, warnings)


def _main(cfg, args, warnings: List[str]):
    """The same in a folder that may be written to."""
    register_builtin()
    with loaded_once():
        warnings += check_config(cfg, eval_only=args.eval_only)
        if cfg.SEED < 0:
            cfg.SEED = comm.shared_random_seed() % 2**31
        cfg.freeze()
        default_setup(cfg, args)
        set_up_log(cfg.OUTPUT_DIR)
        for warning in warnings:
            logger.warning(warning)
        trainer = None if args.eval_only else SoftTeacherTrainer(cfg)
    if args.eval_only:
        return SoftTeacherTrainer.test(cfg, _load_model(cfg, resume=args.resume))
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def _check_architecture(cfg) -> None:
    if cfg.MODEL.META_ARCHITECTURE != "SoftTeacher":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is '{cfg.MODEL.META_ARCHITECTURE}': set it to 'SoftTeacher'"
        )


def _load_model(cfg, *, resume: bool = False):
    model = SoftTeacherTrainer.build_model(cfg)
    checkpointer = SoftTeacherCheckpointer(model, cfg.OUTPUT_DIR, complete=True)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    return model


def _with_types(opts: Sequence[str], cfg) -> List[str]:
    """Overrides as yacs takes them: it refuses 2 for 2.0, and a name for a list of one name."""
    found = list(opts)
    known = {key: value_of(cfg, key) for key in found[0::2]}
    for place in range(1, len(found), 2):
        key, text = found[place - 1], found[place]
        if type(known[key]) is float and type(_literal(text)) is int:
            found[place] = str(float(text))
        elif isinstance(known[key], (tuple, list)) and isinstance(_literal(text), str):
            found[place] = str((_literal(text),))
    return found


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _explain(error: Exception, known, config_file: str) -> str:
    message = " ".join(str(error).strip("'\"").split())
    if "Non-existent" not in message:
        return f"config '{config_file}' cannot be read: {message}"
    key = message.split(":", 1)[1].strip()
    return f"unknown config key {key}{did_you_mean(key.upper(), _keys(known))}"


def _keys(cfg, prefix=""):
    for key, value in cfg.items():
        yield prefix + key
        if hasattr(value, "items"):
            yield from _keys(value, f"{prefix}{key}.")
