"""Settings of a run beside its model, data and optimizer, in either config language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["TrainSettings"]


def setting(key: str, **options):
    """A field of one key; whether a resumed run may change it is in its :class:`.Setting`."""
    return field(metadata={"key": key}, **options)


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the loop, its checkpoints and its monitoring; see the keys in ``config.py``."""

    output_dir: str = setting("OUTPUT_DIR")
    seed: int = setting("SEED")
    max_iter: int = setting("SOLVER.MAX_ITER")
    amp: bool = setting("SOLVER.AMP.ENABLED")
    precision: str = setting("SOLVER.AMP.PRECISION")
    image_format: str = setting("INPUT.FORMAT")
    weights: str = setting("MODEL.WEIGHTS")
    micro_batches: int = setting("SOLVER.GRADIENT_ACCUMULATION")
    max_nonfinite: int = setting("SOLVER.MAX_NONFINITE")
    checkpoint_period: int = setting("SOLVER.CHECKPOINT_PERIOD")
    checkpoints_to_keep: int | None = setting("SOLVER.CHECKPOINTS_TO_KEEP")
    eval_period: int = setting("TEST.EVAL_PERIOD")
    eval_networks: Sequence[str] = setting("SOFT_TEACHER.EVAL_NETWORKS")
    test_names: Sequence[str] = setting("DATASETS.TEST")
    vis_period: int = setting("VIS_PERIOD")
    burn_in: int = setting("SOFT_TEACHER.BURN_IN")
    labeled_share: float = setting("SOFT_TEACHER.LABELED_SHARE")
    patience: int = setting("SOFT_TEACHER.WATCH.PATIENCE")
    wandb_project: str = setting("SOFT_TEACHER.WATCH.WANDB.PROJECT")
    wandb_name: str = setting("SOFT_TEACHER.WATCH.WANDB.NAME")
    resume_changed: bool = setting("SOFT_TEACHER.RESUME_CHANGED")
    # YAML has no key for it: Detectron2's trainer logs every 20 steps.
    log_period: int = setting("", default=20)

    @classmethod
    def of(cls, value_of: Callable[[str], Any], **others) -> TrainSettings:
        """
        Args:
            value_of: YAML key -> its value in the config.
            others: fields that are given.
        """
        keys = {f.name: f.metadata["key"] for f in fields(cls) if f.metadata["key"]}
        return cls(**{name: value_of(key) for name, key in keys.items()}, **others)
