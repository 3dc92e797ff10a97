"""Warnings about pseudo boxes and losses that harm a teacher, and about one that got worse."""

import logging
import math
from collections.abc import Sequence

from detectron2.engine import HookBase

from ..modeling import SoftTeacher
from ..utils.errors import ConfigError
from .diagnosis import Settings, declined, diagnose
from .statistics import Totals

__all__ = ["DeclineCheck", "HealthCheck"]

logger = logging.getLogger(__name__)

# Steps before a warning is repeated.
REPEAT = 1000


class Repeated:
    """Logs the warning of a condition after ``REPEAT`` steps at the earliest."""

    def __init__(self, warned: dict[str, int] | None = None):
        """
        Args:
            warned: condition -> step of its last warning.
        """
        self.warned = dict(warned or {})

    def warn(self, condition: str, step: int, text: str) -> None:
        if step - self.warned.get(condition, -REPEAT) >= REPEAT:
            logger.warning(text)
            self.warned[condition] = step


class HealthCheck:
    """Diagnoses every ``patience`` steps with unlabeled images, and limits how often it warns.

    All ranks count the steps; the totals are on the main rank.
    """

    def __init__(self, model: SoftTeacher, *, patience: int = 200, class_names: Sequence[str] = ()):
        """
        Args:
            model: whose settings are in use.
            patience: steps with unlabeled images that a diagnosis covers.
            class_names: by class number.
        """
        if patience < 1:
            raise ConfigError(f"HealthCheck.patience must be at least 1, got {patience}")
        self.settings = Settings.of(model, class_names)
        self.patience = patience
        self._steps, self._totals = 0, Totals()
        self._best_score = 0.0
        self._warnings = Repeated()

    @property
    def is_due(self) -> bool:
        return self._steps >= self.patience

    def count(self) -> None:
        """Counts a step with unlabeled images."""
        self._steps += 1

    def add(self, totals: Totals) -> None:
        """Takes the totals of all ranks since the last call."""
        self._totals = self._totals + totals
        self._best_score = max(self._best_score, totals.best_score)

    def check(self, step: int) -> None:
        """Diagnoses everything since the last check, up to ``step``; may warn."""
        findings = diagnose(self._totals, self.settings, best_score=self._best_score)
        for condition, text in findings.items():
            self._warnings.warn(condition, step, f"step {step}, last {self._steps} steps: {text}")
        self._steps, self._totals = 0, Totals()

    def state_dict(self, waiting: Totals = Totals()) -> dict:
        """
        Args:
            waiting: totals that have not been added yet.
        """
        return {
            "steps": self._steps,
            "totals": (self._totals + waiting).state_dict(),
            "best_score": max(self._best_score, waiting.best_score),
            "warned": dict(self._warnings.warned),
        }

    def load_state_dict(self, state: dict) -> None:
        self._steps = state["steps"]
        self._totals = Totals.from_state_dict(state["totals"])
        self._best_score = state["best_score"]
        self._warnings = Repeated(state["warned"])


class DeclineCheck(HookBase):
    """Warns where the teacher's AP falls below what it was when it began to label.

    That is the last evaluation up to the end of the burn-in, else the first one after it. Register
    it after the evaluation, before the hook that saves checkpoints.
    """

    def __init__(self, model: SoftTeacher, metric: str, *, burn_in: int):
        """
        Args:
            model: whose settings are in use.
            metric: name of the teacher's AP in the event storage.
            burn_in: steps without unlabeled images.
        """
        self.settings = Settings.of(model)
        self.metric = metric
        self.burn_in = burn_in
        self._reference: tuple[float, int] | None = None
        self._warnings = Repeated()

    def after_step(self) -> None:
        value, step = self.trainer.storage.latest().get(self.metric, (math.nan, None))
        if step != self.trainer.iter:
            return
        done = step + 1
        if done <= self.burn_in or self._reference is None:
            # Without a single detection AP is NaN.
            self._reference = self._reference if math.isnan(value) else (float(value), done)
            return
        text = declined(value, *self._reference, self.settings)
        if text:
            self._warnings.warn("decline", step, f"step {step}: {text}")

    def state_dict(self) -> dict:
        return {"reference": self._reference, "warned": dict(self._warnings.warned)}

    def load_state_dict(self, state: dict) -> None:
        reference = state["reference"]
        self._reference = None if reference is None else tuple(reference)
        self._warnings = Repeated(state["warned"])
