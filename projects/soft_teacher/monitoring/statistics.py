"""Numbers of many steps, with one host-device sync."""

from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from detectron2.structures import Instances

from ..data.unlabeled_annotations import HIDDEN_INSTANCES
from ..evaluation.pseudo_label_quality import Matches, match_boxes
from ..modeling.step_record import COLUMNS, StepView, table

__all__ = ["Totals", "Window", "scalars"]

# Means are summed in fixed point: such sums are exact, however ranks or interruptions divide them.
ONE = 2**40
BOX = slice(0, 4)
SCORE, CLASS, CONFIDENT, CANDIDATE, VARIANCE, STABLE = range(4, len(COLUMNS))


@dataclass(frozen=True)
class Totals:
    """Sums over unlabeled images of any steps and ranks; ``a + b`` is the sum over both.

    Attributes:
        images, detections: how many.
        confident, candidates, stable: detections of G_cls, jittered ones, those of G_reg.
        measured, variance: candidates with a finite variance, and the sum of it times ``ONE``.
        passes, reliability: forward passes that weighted backgrounds, and the sum of their mean r
            times ``ONE``.
        best_score: the highest score of a detection, 0 without any.
        classification, regression: G_cls and G_reg against the ground truth, where it is known.
    """

    images: int = 0
    detections: int = 0
    confident: int = 0
    candidates: int = 0
    stable: int = 0
    measured: int = 0
    variance: int = 0
    passes: int = 0
    reliability: int = 0
    best_score: float = 0.0
    classification: Matches = Matches()
    regression: Matches = Matches()

    def __add__(self, other: "Totals") -> "Totals":
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Totals(**{**sums, "best_score": max(self.best_score, other.best_score)})

    @property
    def mean_variance(self) -> float | None:
        """Of the candidates; None without any."""
        return self.variance / ONE / self.measured if self.measured else None

    @property
    def mean_reliability(self) -> float | None:
        """Of the backgrounds; None where they were not weighted."""
        return self.reliability / ONE / self.passes if self.passes else None

    def state_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict) -> "Totals":
        matches = {k: Matches(**state[k]) for k in ("classification", "regression")}
        return cls(**{**state, **matches})


def scalars(totals: Totals) -> dict[str, float]:
    """What is logged of a window; a mean over nothing is left out."""
    found = {
        "pseudo/best_score": totals.best_score if totals.detections else None,
        "pseudo/mean_variance": totals.mean_variance,
        "unsup/mean_background_reliability": totals.mean_reliability,
        "pseudo/precision_cls": totals.classification.precision,
        "pseudo/recall_cls": totals.classification.recall,
        "pseudo/precision_reg": totals.regression.precision,
        "pseudo/recall_reg": totals.regression.recall,
    }
    return {name: value for name, value in found.items() if value is not None}


class Window:
    """Keeps the views of steps on the device until their totals are needed."""

    def __init__(self):
        self.clear()

    def add(self, view: StepView) -> None:
        """Takes a step's view, without a host-device sync."""
        truths = [sample.get(HIDDEN_INSTANCES) for sample in view.samples]
        counts = [len(boxes.detections) for boxes in view.teacher_boxes]
        rows = table(view.teacher_boxes)
        self._waiting.append((rows, view.background_reliability, counts, truths))

    def totals(self) -> Totals:
        """Everything since :meth:`clear`, on this rank. One copy from the device, if any."""
        if self._waiting:
            self._read = self._read + _totals(self._waiting)
            self._waiting = []
        return self._read

    def clear(self) -> None:
        self._waiting: list[tuple] = []
        self._read = Totals()


def _totals(waiting: list[tuple]) -> Totals:
    tables, reliabilities, counts, truths = zip(*waiting)
    reliabilities = [r for r in reliabilities if r is not None]
    parts = [t.flatten() for t in tables] + [r.float().reshape(1) for r in reliabilities]
    numbers = torch.cat(parts).cpu().double().numpy()
    end = len(numbers) - len(reliabilities)
    rows = numbers[:end].reshape(-1, len(COLUMNS))
    count, total = _fixed_point(numbers[end:])
    found = Totals(passes=count, reliability=total)
    images = np.split(rows, np.cumsum([n for step in counts for n in step])[:-1])
    for image, truth in zip(images, [t for step in truths for t in step]):
        found = found + _of_image(image, truth)
    return found


def _fixed_point(values: np.ndarray) -> tuple[int, int]:
    """How many values are finite, and their sum times ``ONE``."""
    finite = values[np.isfinite(values)]
    return len(finite), sum(round(value * ONE) for value in finite.tolist())


def _of_image(rows: np.ndarray, truth: Instances | None) -> Totals:
    candidates = rows[:, CANDIDATE] > 0
    measured, variance = _fixed_point(rows[candidates, VARIANCE])
    return Totals(
        images=1,
        detections=len(rows),
        confident=int(rows[:, CONFIDENT].sum()),
        candidates=int(candidates.sum()),
        stable=int(rows[:, STABLE].sum()),
        measured=measured,
        variance=variance,
        best_score=float(rows[:, SCORE].max(initial=0)),
        classification=_matches(rows[rows[:, CONFIDENT] > 0], truth),
        regression=_matches(rows[rows[:, STABLE] > 0], truth),
    )


def _matches(rows: np.ndarray, truth: Instances | None) -> Matches:
    if truth is None:
        return Matches()
    ground_truth = truth.gt_boxes.tensor.double().numpy(), truth.gt_classes.numpy()
    return match_boxes(rows[:, BOX], rows[:, CLASS], rows[:, SCORE], *ground_truth)
