"""The linear scaling rule: the same training with another number of images a step."""

from typing import Any, Dict, List

from ..utils.errors import ConfigError

__all__ = ["LAZY_KEYS", "YAML_KEYS", "scaled_values"]

# How a value follows the number of images a step: with it, against it (a number of steps), or as
# the EMA's memory, which stays as long counted in images.
RULES = {
    "images": lambda value, factor: round(value * factor),
    "rate": lambda value, factor: value * factor,
    "steps": lambda value, factor: max(round(value / factor), 1) if value else value,
    "memory": lambda value, factor: value**factor,
}
YAML_KEYS = {
    "SOLVER.IMS_PER_BATCH": "images",
    "SOLVER.BASE_LR": "rate",
    "SOLVER.MAX_ITER": "steps",
    "SOLVER.STEPS": "steps",
    "SOLVER.WARMUP_ITERS": "steps",
    "SOLVER.CHECKPOINT_PERIOD": "steps",
    "TEST.EVAL_PERIOD": "steps",
    "SOFT_TEACHER.BURN_IN": "steps",
    "SOFT_TEACHER.LABELED_SHARE_DECAY": "steps",
    "SOFT_TEACHER.EMA.MOMENTUM": "memory",
}
# A LazyConfig's warm-up is a share of all steps already.
LAZY_KEYS = {
    "dataloader.train.batch_size": "images",
    "optimizer.lr": "rate",
    "train.max_iter": "steps",
    "lr_multiplier.scheduler.milestones": "steps",
    "train.checkpointer.period": "steps",
    "train.eval_period": "steps",
    "train.burn_in": "steps",
    "dataloader.train.decay_steps": "steps",
    "ema.momentum": "memory",
}


def scaled_values(values: Dict[str, Any], rules: Dict[str, str], images: int) -> Dict[str, Any]:
    """Values for ``images`` a step that see the same images at the same pace.

    With k times the images a step, the learning rate is k times as high, there are k times fewer
    steps of every kind, and the EMA momentum m becomes m^k.

    Args:
        values: key -> value, a number or a list of numbers, for the keys of ``rules``.
        rules: YAML_KEYS or LAZY_KEYS.
        images: per step over all processes, labeled and unlabeled together.

    Raises:
        ConfigError: for less than one image.
    """
    (images_key,) = [key for key, rule in rules.items() if rule == "images"]
    if images < 1:
        raise ConfigError(f"{images_key} must be at least 1, got {images}")
    factor = images / values[images_key]
    return {key: _scaled(values[key], rule, factor) for key, rule in rules.items()}


def _scaled(value: Any, rule: str, factor: float):
    if isinstance(value, (list, tuple)):
        parts: List[Any] = [RULES[rule](part, factor) for part in value]
        return tuple(parts)
    found = RULES[rule](value, factor)
    return float(f"{found:.6g}") if isinstance(found, float) else found
