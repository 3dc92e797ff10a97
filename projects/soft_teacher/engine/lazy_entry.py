"""train_net.py for LazyConfig files (.py)."""

import inspect
import logging
import os
import weakref
from typing import Dict, List

from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.engine import default_setup, hooks
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from ..data.builtin import register_builtin
from ..data.datasets import check_datasets, class_names
from ..errors import ConfigError, did_you_mean
from ..evaluation.evaluate import best_metric, check_networks, evaluate_networks
from .build import build_hooks, build_train_loop, check_amp, saves_after
from .checkpoint import SoftTeacherCheckpointer
from .device import usable_device
from .events import build_writers
from .identity import RunIdentity, flat
from .wandb_writer import check_wandb
from .watch import build_watch_hooks

SECTIONS = ("model", "dataloader", "optimizer", "lr_multiplier", "ema", "train")
# Keys that may change when a training is gone on with. Its images are compared themselves.
COURSE_FREE = (
    "dataloader.evaluator",
    "dataloader.test",
    "dataloader.train.chunks",
    "dataloader.train.hidden_labels",
    "dataloader.train.labeled_names",
    "dataloader.train.max_unreadable",
    "dataloader.train.num_workers",
    "dataloader.train.unlabeled_names",
    "split",
    "train.checkpointer",
    "train.device",
    "train.eval_networks",
    "train.eval_period",
    "train.init_checkpoint",
    "train.log_period",
    "train.max_nonfinite",
    "train.output_dir",
    "train.resume_changed",
    "train.vis_period",
    "train.watch",
)

__all__ = ["check_config", "dataset_names", "load_config", "main"]

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
    loader = cfg.dataloader.train
    return {
        "labeled": [] if eval_only else _listed(loader.labeled_names),
        "unlabeled": (
            [] if eval_only or loader.labeled_share == 1 else _listed(loader.unlabeled_names)
        ),
        "test": _test_names(cfg),
    }


def main(args):
    """Trains or evaluates on this rank. See :func:`soft_teacher.engine.yaml_entry.main`."""
    cfg = load_config(args.config_file, args.opts)
    register_builtin()
    warnings = check_config(cfg, eval_only=args.eval_only)
    if cfg.train.seed < 0:
        cfg.train.seed = comm.shared_random_seed() % 2**31
    default_setup(cfg, args)
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="soft_teacher")
    for warning in warnings:
        logger.warning(warning)
    model = instantiate(cfg.model).to(cfg.train.device)
    if args.eval_only:
        checkpointer = SoftTeacherCheckpointer(model, cfg.train.output_dir, complete=True)
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=args.resume)
        return _evaluate(cfg, model)
    return _train(cfg, model, resume=args.resume)


def _train(cfg, model, *, resume: bool):
    cfg.optimizer.params.model = model
    optimizer = _clipped(instantiate(cfg.optimizer), cfg.train.clip_gradients)
    cfg.ema.student, cfg.ema.teacher = model.student, model.teacher
    ema = instantiate(cfg.ema)
    loader = instantiate(cfg.dataloader.train)
    settings = cfg.train
    trainer = build_train_loop(
        model,
        loader,
        optimizer,
        output_dir=settings.output_dir,
        seed=settings.seed,
        chunks=cfg.dataloader.train.chunks,
        max_nonfinite=settings.max_nonfinite,
        amp=settings.amp.enabled,
        precision=settings.amp.precision,
    )
    checkpointer = SoftTeacherCheckpointer(
        model,
        settings.output_dir,
        identity=_identity(cfg, loader),
        save_to_disk=comm.is_main_process(),
        trainer=weakref.proxy(trainer),
    )
    results = {}

    def evaluate():
        results.update(_evaluate(cfg, model))
        return results

    trainer.register_hooks(
        build_hooks(
            loop=trainer,
            output_dir=settings.output_dir,
            ema=ema,
            scheduler=hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            checkpointer=checkpointer,
            checkpoint_period=settings.checkpointer.period,
            max_to_keep=settings.checkpointer.max_to_keep,
            eval_period=settings.eval_period,
            evaluate=evaluate,
            best_metric=best_metric(settings.eval_networks, _test_names(cfg)),
            build_writers=lambda first: build_writers(
                settings.output_dir,
                settings.max_iter,
                first,
                resume=trainer.start_iter > 0,
                wandb_project=settings.watch.wandb.project,
                wandb_name=settings.watch.wandb.name,
            ),
            watch=_watch_hooks(cfg, model, loader, trainer),
            log_period=settings.log_period,
        )
    )
    checkpointer.resume_or_load(settings.init_checkpoint, resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, settings.max_iter)
    return results


def _watch_hooks(cfg, model, loader, trainer):
    settings = cfg.train
    return build_watch_hooks(
        model,
        loader.schedule,
        output_dir=settings.output_dir,
        log_period=settings.log_period,
        vis_period=settings.vis_period,
        patience=settings.watch.patience,
        saves=saves_after(trainer, settings.checkpointer.period, settings.eval_period),
        class_names=class_names(cfg.dataloader.train.labeled_names),
        image_format=cfg.dataloader.train.image_format,
    )


def _identity(cfg, loader) -> RunIdentity:
    values = flat(OmegaConf.to_container(cfg, resolve=True), without=COURSE_FREE)
    return RunIdentity({**values, **loader.identity()}, allow_changes=cfg.train.resume_changed)


def _clipped(optimizer, settings):
    """The optimizer with Detectron2's gradient clipping, if that is wanted."""
    solver = get_cfg()
    solver.SOLVER.CLIP_GRADIENTS.update({k.upper(): v for k, v in settings.items()})
    return maybe_add_gradient_clipping(solver, optimizer)


def _evaluate(cfg, model):
    return evaluate_networks(
        model,
        networks=cfg.train.eval_networks,
        datasets=_test_names(cfg),
        build_loader=lambda name: instantiate(_for_dataset(cfg.dataloader.test, name)),
        build_evaluator=lambda name, network: instantiate(
            OmegaConf.merge(cfg.dataloader.evaluator, {"dataset_name": name})
        ),
    )


def _for_dataset(test_loader, name: str):
    loader = test_loader.copy()
    loader.dataset.names = name
    return loader


def _test_names(cfg):
    return _listed(cfg.dataloader.test.dataset.names)


def _listed(names) -> List[str]:
    return [names] if isinstance(names, str) else list(names)


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
