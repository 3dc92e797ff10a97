"""The linear scaling rule: the same training with another number of images a step."""

from typing import Any, Dict, List

from ..utils.errors import ConfigError

__all__ = ["SCALES", "scaled_values"]

# How a value follows the number of images a step: with it, against it (a number of steps), or as
# the EMA's memory, which stays as long counted in images.
RULES = {
    "images": lambda value, factor: round(value * factor),
    "rate": lambda value, factor: value * factor,
    "steps": lambda value, factor: max(round(value / factor), 1) if value else value,
    "memory": lambda value, factor: value**factor,
}
SCALES = {
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


def scaled_values(values: Dict[str, Any], images: int) -> Dict[str, Any]:
    """Values for ``images`` a step that see the same images at the same pace.

    With k times the images a step, the learning rate is k times as high, there are k times fewer
    steps of every kind, and the EMA momentum m becomes m^k.

    Args:
        values: key of SCALES -> value, a number or a list of numbers. A LazyConfig has no
            ``SOLVER.WARMUP_ITERS``: its warm-up is a share of all steps already.
        images: per step over all processes, labeled and unlabeled together.

    Raises:
        ConfigError: for less than one image.
    """
    if images < 1:
        raise ConfigError(f"SOLVER.IMS_PER_BATCH must be at least 1, got {images}")
    factor = images / values["SOLVER.IMS_PER_BATCH"]
    return {key: _scaled(value, SCALES[key], factor) for key, value in values.items()}


def _scaled(value: Any, rule: str, factor: float):
    if isinstance(value, (list, tuple)):
        parts: List[Any] = [RULES[rule](part, factor) for part in value]
        return tuple(parts)
    found = RULES[rule](value, factor)
    return float(f"{found:.6g}") if isinstance(found, float) else found
