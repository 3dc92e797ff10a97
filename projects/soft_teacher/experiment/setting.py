"""One setting of a run: its names in both config languages, and what its value must be."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "HEADS",
    "RPN",
    "STUDENT",
    "TEST",
    "TRAIN",
    "VIEWS",
    "Setting",
    "of_class",
    "of_policies",
    "of_predictors",
]

TRAIN = "dataloader.train"
TEST = "dataloader.test"
STUDENT = "model.student"
RPN = f"{STUDENT}.proposal_generator"
HEADS = f"{STUDENT}.roi_heads"
# What detects: the only box predictor, or that of the last of a cascade's three stages.
PREDICTORS = f"{HEADS}.box_predictor", f"{HEADS}.box_predictors[2]"
VIEWS = [f"{TRAIN}.{view}_augmentations" for view in ("labeled", "strong", "weak")]


@dataclass(frozen=True)
class Setting:
    """What one YAML key is called elsewhere, and what its value must be.

    Attributes:
        lazy: the paths of a LazyConfig, if it has any: those that a config has all of with spaces
            between them, those of one family of detectors and of another with a |.
        check: raises ConfigError for a value by itself.
        parameter: what the classes that take it call it, ``Class.parameter``.
        free: whether a resumed run may have another value.
    """

    lazy: str
    check: Callable[[str, Any], None] | None = None
    parameter: str = ""
    free: bool = False

    @property
    def paths(self) -> list[str]:
        return re.split("[ |]", self.lazy) if self.lazy else []


def of_policies(parameter: str, check) -> Setting:
    """The setting of a parameter that the policies of all three views have."""
    paths = " ".join(f"{view}.{parameter}" for view in VIEWS)
    return Setting(paths, check, f"build_policy.{parameter}")


def of_class(path: str, parameter: str, check, *, free: bool = False) -> Setting:
    """The setting of ``Class.parameter`` of what a LazyConfig has at ``path``."""
    return Setting(f"{path}.{parameter.partition('.')[2]}", check, parameter, free)


def of_predictors(name: str) -> str:
    """The paths of a parameter of the box predictor that detects."""
    return "|".join(f"{path}.{name}" for path in PREDICTORS)
