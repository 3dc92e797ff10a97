"""Warnings about pseudo boxes that cannot teach anything."""

import logging
import math
from typing import Dict, Optional

from ..modeling import PseudoLabeler
from ..utils.errors import ConfigError
from .statistics import Totals

__all__ = ["HealthCheck", "diagnose"]

logger = logging.getLogger(__name__)

# More pseudo boxes per image than this are suspicious.
MANY_PER_IMAGE = 50
# So is a larger share of the detections than this.
NEARLY_ALL = 0.95
# Fewer boxes than this say nothing about a share.
ENOUGH = 50
# Steps before a warning is repeated.
REPEAT = 1000


def diagnose(
    totals: Totals,
    *,
    best_score: float,
    score_thresh: float,
    variance_thresh: Optional[float],
    given: bool = False,
) -> Dict[str, str]:
    """What is wrong with the pseudo boxes of some steps.

    Args:
        totals: of these steps.
        best_score: the highest score that the teacher gave so far.
        score_thresh: tau_cls.
        variance_thresh: tau_var; None without box jittering.
        given: the boxes come with the dataset, where it is no wonder that they pass the threshold.

    Returns:
        condition -> one line that names the key to change; empty if all is well, or if there were
        no unlabeled images.
    """
    if not totals.images:
        return {}
    found = _by_score(totals, best_score, score_thresh, given)
    if variance_thresh is not None and totals.candidates >= ENOUGH:
        found.update(_by_variance(totals, variance_thresh))
    return found


def _by_score(totals: Totals, best_score: float, threshold: float, given: bool) -> Dict[str, str]:
    per_image = totals.confident / totals.images
    share = totals.confident / max(totals.detections, 1)
    now = f"PseudoLabeler.score_thresh, now {threshold:g}"
    if totals.confident == 0 and given:
        text = f"no given label is a pseudo box, the best score is {best_score:.2f}: lower {now}"
        return {"no pseudo boxes": text}
    if totals.confident == 0:
        text = (
            f"no detection is a pseudo box, the teacher's best score is {totals.best_score:.2f} "
            f"({best_score:.2f} since the start): lower {now}, or let the teacher learn longer "
            "from labels alone (BatchSchedule.burn_in)"
        )
        return {"no pseudo boxes": text}
    if per_image > MANY_PER_IMAGE:
        text = (
            f"{per_image:.0f} pseudo boxes per image: raise {now}, unless images hold as many "
            "objects"
        )
        return {"many pseudo boxes": text}
    if not given and totals.detections >= ENOUGH and share > NEARLY_ALL:
        text = (
            f"{share:.0%} of the teacher's detections are pseudo boxes: raise {now}, unless the "
            "teacher is right as often"
        )
        return {"nearly every detection": text}
    return {}


def _by_variance(totals: Totals, threshold: float) -> Dict[str, str]:
    mean = f"mean variance {totals.mean_variance or math.inf:.3g}"
    now = f"PseudoLabeler.variance_thresh, now {threshold:g}"
    if totals.stable == 0:
        text = (
            f"none of {totals.candidates} jittered boxes is a pseudo box for regression, {mean}: "
            f"raise {now}"
        )
        return {"no stable box": text}
    if totals.stable == totals.candidates:
        text = (
            f"all of {totals.candidates} jittered boxes are pseudo boxes for regression, {mean}: "
            f"lower {now}"
        )
        return {"every box stable": text}
    return {}


class HealthCheck:
    """Diagnoses every ``patience`` steps with unlabeled images, and warns now and then."""

    def __init__(self, labeler: PseudoLabeler, *, patience: int = 200, given: bool = False):
        """
        Args:
            labeler: whose thresholds are in use.
            given: see :func:`diagnose`.
            patience: steps with unlabeled images that a diagnosis looks at, at least.

        Raises:
            ConfigError: for a patience below 1.
        """
        if patience < 1:
            raise ConfigError(f"HealthCheck.patience must be at least 1, got {patience}")
        self.settings = {
            "score_thresh": labeler.score_thresh,
            "variance_thresh": labeler.variance_thresh if labeler.measure_stability else None,
            "given": given,
        }
        self.patience = patience
        self._steps, self._totals = 0, Totals()
        self._best_score = 0.0
        self._warned: Dict[str, int] = {}

    def add(self, totals: Totals, *, steps: int, step: int) -> None:
        """Takes what happened since the last call, and may warn.

        Args:
            totals: over all ranks.
            steps: how many of the steps had unlabeled images.
            step: number of the last one.
        """
        self._steps += steps
        self._totals = self._totals + totals
        self._best_score = max(self._best_score, totals.best_score)
        if self._steps < self.patience:
            return
        findings = diagnose(self._totals, best_score=self._best_score, **self.settings)
        for condition, text in findings.items():
            if step - self._warned.get(condition, -REPEAT) >= REPEAT:
                logger.warning("step %d, last %d steps: %s", step, self._steps, text)
                self._warned[condition] = step
        self._steps, self._totals = 0, Totals()

    def state_dict(self) -> dict:
        return {
            "steps": self._steps,
            "totals": self._totals.state_dict(),
            "best_score": self._best_score,
            "warned": dict(self._warned),
        }

    def load_state_dict(self, state: dict) -> None:
        self._steps = state["steps"]
        self._totals = Totals.from_state_dict(state["totals"])
        self._best_score = state["best_score"]
        self._warned = dict(state["warned"])
