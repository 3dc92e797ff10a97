"""What can be known to be wrong with a config before a dataset is read or a model is built.

Single values are held to a table (:mod:`.config_keys`). Everything else is found out by a
rehearsal: the parts of the run are built by the very code that builds them later, on torch's
"meta" device, where tensors have a shape and no memory. So no rule stands in two places.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.utils import comm

from ..data.streams.schedule import absent_streams, check_schedule
from ..data.streams.unreadable import UnreadableImages
from ..distributed.sync_bn import synchronize_batch_norm
from ..engine.nonfinite import NonFiniteGuard
from ..evaluation.evaluate import check_networks
from ..modeling.families.base import DetectorFamily
from ..monitoring.hooks import build_watch_hooks
from ..monitoring.wandb_writer import check_wandb
from ..utils.errors import ConfigError, one_line, place_of
from .build import check_amp
from .config_keys import SETTINGS

__all__ = [
    "Settings",
    "check_parts",
    "check_run",
    "check_values",
    "rehearsal",
    "rehearsed_model",
]


class Settings:
    """The values of a config under the names that YAML has for them."""

    def __init__(
        self,
        read: Callable[[str], Iterable[tuple[str, Any]]],
        family: type[DetectorFamily] | None,
    ):
        """
        Args:
            read: YAML key -> (name, value) of each place of the config that it stands for.
            family: of the detector; None if there is none, which the rehearsal will find out.
        """
        self.read = read
        self.family = family

    def __getitem__(self, key: str) -> Any:
        """The first value of a YAML key; None if the config has none."""
        return next((value for _, value in self.read(key)), None)


def check_values(settings: Settings, *, eval_only: bool) -> None:
    """Checks every value by itself, and the levels of the anchors.

    Raises:
        ConfigError: naming the key and the fix.
    """
    for key, (_, check) in SETTINGS.items():
        if check and not (eval_only and key.startswith("SOLVER.")):
            for name, value in settings.read(key):
                check(name, value)
    check_networks(settings["SOFT_TEACHER.EVAL_NETWORKS"])
    levels = settings.family and settings.family.anchor_levels_key
    for key in ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"):
        for name, anchors in settings.read(key) if levels else []:
            _check_levels(name, anchors, levels, settings[levels])


def check_run(settings: Settings, *, eval_only: bool) -> list[str]:
    """Checks what has to fit together, once the values are fine.

    Returns:
        what is worth a warning.

    Raises:
        ConfigError: naming the key and the fix.
    """
    if eval_only:
        if not settings["DATASETS.TEST"]:
            raise ConfigError("DATASETS.TEST is empty: name a dataset to evaluate on")
        return []
    check_wandb(settings["SOFT_TEACHER.WATCH.WANDB.PROJECT"])
    check_amp(
        settings["SOLVER.AMP.ENABLED"], settings["SOLVER.AMP.PRECISION"], settings["MODEL.DEVICE"]
    )
    warnings = _check_schedule(settings)
    if not settings["DATASETS.TEST"]:
        warnings.append(
            "DATASETS.TEST is empty: nothing is evaluated, and model_best.pth is not written"
        )
    warmup, steps = settings["SOLVER.WARMUP_ITERS"], settings["SOLVER.MAX_ITER"]
    if warmup is not None and warmup > steps:
        warnings.append(
            f"SOLVER.WARMUP_ITERS ({warmup}) exceeds SOLVER.MAX_ITER ({steps}): the learning rate "
            "never rises to SOLVER.BASE_LR"
        )
    return warnings


def check_parts(model, settings: Settings) -> None:
    """Builds what watches over a training.

    Args:
        model: of :func:`rehearsed_model`.

    Raises:
        ConfigError: naming the key and the fix.
    """
    build_watch_hooks(
        model,
        schedule=None,
        output_dir="",
        vis_period=settings["VIS_PERIOD"],
        patience=settings["SOFT_TEACHER.WATCH.PATIENCE"],
    )
    NonFiniteGuard(model, "", settings["SOLVER.MAX_NONFINITE"])
    UnreadableImages("", 0, settings["DATALOADER.MAX_UNREADABLE"] or 0)
    synchronize_batch_norm(model)


@contextmanager
def rehearsal(what: str):
    """Turns whatever goes wrong inside into a ConfigError; nothing is logged, the run itself will.

    Args:
        what: is built inside.
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
    """The model without memory, or None if it is of a kind that cannot be without.

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


def _check_schedule(settings: Settings) -> list[str]:
    chunks = settings["SOLVER.GRADIENT_ACCUMULATION"] or 1
    keys = {
        "batch_size": "SOLVER.IMS_PER_BATCH",
        "share": "SOFT_TEACHER.LABELED_SHARE",
        "decay_steps": "SOFT_TEACHER.LABELED_SHARE_DECAY",
        "max_iter": "SOLVER.MAX_ITER",
        "burn_in": "SOFT_TEACHER.BURN_IN",
        "draw": "SOFT_TEACHER.LABELED_DRAW",
    }
    values = {name: settings[key] for name, key in keys.items() if settings[key] is not None}
    check_schedule(**values, world_size=comm.get_world_size() * chunks)
    if values.get("draw") == "per_rank":
        return []
    return absent_streams(**{name: values[name] for name in ("batch_size", "share", "max_iter")})
