"""Mistakes in a config that can be found before a dataset is read or a model is built.

Single values are held to a table (:mod:`.settings`). Everything else is found by a
rehearsal: the parts of the run are built by the code that builds them later, on torch's "meta"
device, where tensors have a shape and no memory. So no rule is written twice.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from detectron2.utils import comm

from ..data.streams.schedule import absent_streams, check_schedule
from ..data.streams.unreadable import UnreadableImages
from ..distributed.sync_bn import synchronize_batch_norm
from ..engine.nonfinite import NonFiniteGuard
from ..evaluation.evaluate import check_networks
from ..modeling.families.base import DetectorFamily
from ..modeling.multi_scale import check_merges_views
from ..monitoring.hooks import WatchHook
from ..monitoring.picture_hooks import PictureHook
from ..monitoring.wandb_writer import check_wandb
from ..utils.checks import check_choice
from ..utils.errors import ConfigError, one_line, place_of
from .build import PRECISIONS
from .settings import SETTINGS
from .words import YAML_WORDS

__all__ = [
    "check_amp",
    "check_monitors",
    "check_run",
    "check_values",
    "rehearsal",
    "rehearsed_model",
]


class Config(Protocol):
    """What is asked of an :class:`~.experiment.Experiment`."""

    family: type[DetectorFamily]

    def values(self, key: str) -> list[tuple[str, Any]]: ...

    def __getitem__(self, key: str) -> Any: ...


def check_values(config: Config, *, eval_only: bool) -> None:
    """Checks every value by itself, and the levels of the anchors.

    Raises:
        ConfigError: naming the key and the fix.
    """
    for key, setting in SETTINGS.items():
        if setting.check and not (eval_only and key.startswith("SOLVER.")):
            for name, value in config.values(key):
                setting.check(name, value)
    check_networks(config["SOFT_TEACHER.EVAL_NETWORKS"])
    levels = config.family.anchor_levels_parameter
    levels = levels and YAML_WORDS(levels)
    for key in ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"):
        for name, anchors in config.values(key) if levels else []:
            _check_levels(name, anchors, levels, config[levels])


def check_run(config: Config, *, eval_only: bool) -> list[str]:
    """Checks what has to fit together, once the values are fine.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    if eval_only:
        if not config["DATASETS.TEST"]:
            raise ConfigError("DATASETS.TEST is empty: name a dataset to evaluate on")
        if config["TEST.AUG.ENABLED"]:
            check_merges_views(config.family, "TEST.AUG.ENABLED")
        return []
    check_wandb(config["SOFT_TEACHER.WATCH.WANDB.PROJECT"])
    check_amp(config["SOLVER.AMP.ENABLED"], config["SOLVER.AMP.PRECISION"], config["MODEL.DEVICE"])
    warnings = _check_schedule(config)
    if not config["DATASETS.TEST"]:
        warnings.append(
            "DATASETS.TEST is empty: nothing is evaluated, and model_best.pth is not written"
        )
    warmup, steps = config["SOLVER.WARMUP_ITERS"], config["SOLVER.MAX_ITER"]
    if warmup is not None and warmup > steps:
        warnings.append(
            f"SOLVER.WARMUP_ITERS ({warmup}) exceeds SOLVER.MAX_ITER ({steps}): the learning rate "
            "never rises to SOLVER.BASE_LR"
        )
    return warnings


def check_amp(enabled: bool, precision: str, device: str) -> None:
    """Raises ConfigError if mixed precision is asked for where it cannot run."""
    check_choice("SOLVER.AMP.PRECISION", precision, tuple(PRECISIONS))
    if not enabled:
        return
    if not torch.cuda.is_available() or torch.device(device).type != "cuda":
        raise ConfigError("SOLVER.AMP.ENABLED needs a CUDA GPU: set it to False")
    if precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise ConfigError("SOLVER.AMP.PRECISION 'bf16' is not supported by this GPU: use 'fp16'")


def check_monitors(model, config: Config) -> None:
    """Builds the monitors of a run.

    Args:
        model: of :func:`rehearsed_model`.

    Raises:
        ConfigError: naming the key and the fix.
    """
    WatchHook(model, None, patience=config["SOFT_TEACHER.WATCH.PATIENCE"])
    PictureHook(model, "", period=config["VIS_PERIOD"])
    NonFiniteGuard(model, "", config["SOLVER.MAX_NONFINITE"])
    UnreadableImages("", 0, config["DATALOADER.MAX_UNREADABLE"] or 0)
    synchronize_batch_norm(model, supervised=config["SOFT_TEACHER.LABELED_SHARE"] == 1)


@contextmanager
def rehearsal(what: str):
    """Turns any error inside into a ConfigError. Logging is off: the run itself will log.

    Args:
        what: names what is built inside.
    """
    usual = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with torch.device("meta"):
            yield
    except ConfigError:
        raise
    except Exception as error:  # settings meet code of Detectron2, torch and the user
        raise ConfigError(
            f"{what} cannot be built: {one_line(error)} ({place_of(error)})"
        ) from error
    finally:
        logging.disable(usual)


def rehearsed_model(build: Callable[[], torch.nn.Module]) -> torch.nn.Module | None:
    """The model without memory, or None if it cannot be built without.

    Raises:
        ConfigError: it cannot be built.
    """
    try:
        with rehearsal("the model"):
            return build()
    except ConfigError as error:
        if "meta tensor" in str(error.__cause__):  # a network that reads numbers from tensors
            return None
        raise


def _check_levels(name: str, anchors: Sequence, key: str, levels: Sequence[str] | None) -> None:
    if levels is None or isinstance(anchors[0], (int, float)):
        return
    if len(anchors) not in (1, len(levels)):
        raise ConfigError(
            f"{name} must have one list, or one for each of the {len(levels)} levels of {key}, "
            f"got {len(anchors)}"
        )


def _check_schedule(config: Config) -> list[str]:
    chunks = config["SOLVER.GRADIENT_ACCUMULATION"] or 1
    keys = {
        "batch_size": "SOLVER.IMS_PER_BATCH",
        "share": "SOFT_TEACHER.LABELED_SHARE",
        "decay_steps": "SOFT_TEACHER.LABELED_SHARE_DECAY",
        "max_iter": "SOLVER.MAX_ITER",
        "burn_in": "SOFT_TEACHER.BURN_IN",
        "draw": "SOFT_TEACHER.LABELED_DRAW",
    }
    values = {name: config[key] for name, key in keys.items() if config[key] is not None}
    check_schedule(**values, world_size=comm.get_world_size() * chunks)
    if values.get("draw") == "per_rank":
        return []
    return absent_streams(**{name: values[name] for name in ("batch_size", "share", "max_iter")})
