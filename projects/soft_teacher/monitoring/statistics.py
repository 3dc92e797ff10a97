"""Numbers of many steps, with one host-device sync."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest

import numpy as np
import torch
from detectron2.structures import Instances

from ..data.unlabeled_annotations import HIDDEN_INSTANCES
from ..evaluation.pseudo_label_quality import Matches, match_boxes
from ..modeling.step_record import COLUMNS, MOST_CLASSES, StepView, table

__all__ = ["SCORE_BINS", "Totals", "Window", "scalars"]

# Means are summed in fixed point: such sums are exact, however ranks or interruptions divide them.
ONE = 2**40
# Scores are counted in so many bins of equal width.
SCORE_BINS = 20
BOX = slice(0, 4)
SCORE, CLASS, CONFIDENT, CANDIDATE, VARIANCE, STABLE = range(4, len(COLUMNS))


@dataclass(frozen=True)
class Totals:
    """Sums over steps with unlabeled images, of any ranks; ``a + b`` is the sum over both.

    Attributes:
        images, detections: of the unlabeled images, how many.
        scores: detections per bin of their scores, from 0 to 1.
        confident, candidates, stable: detections of G_cls, jittered ones, those of G_reg.
        classes: those of G_cls by class number.
        measured, variance: candidates with a finite variance, and the sum of it times ``ONE``.
        passes, reliability: forward passes that weighted backgrounds, and the sum of their mean r
            times ``ONE``.
        best_score: the highest score of a detection, 0 without any.
        classification, regression: G_cls and G_reg against the ground truth, where it is known.
        labeled_images, labeled_classes: the labeled images, and their objects by class number.
        labeled_loss, unlabeled_loss: sums of the losses of the steps with images of both streams,
            times ``ONE``; the latter times alpha.
    """

    images: int = 0
    detections: int = 0
    scores: tuple[int, ...] = ()
    confident: int = 0
    candidates: int = 0
    stable: int = 0
    classes: tuple[int, ...] = ()
    measured: int = 0
    variance: int = 0
    passes: int = 0
    reliability: int = 0
    best_score: float = 0.0
    classification: Matches = Matches()
    regression: Matches = Matches()
    labeled_images: int = 0
    labeled_classes: tuple[int, ...] = ()
    labeled_loss: int = 0
    unlabeled_loss: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        sums = {f.name: _sum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Totals(**{**sums, "best_score": max(self.best_score, other.best_score)})

    @property
    def mean_variance(self) -> float | None:
        """Of the candidates; None without any."""
        return self.variance / ONE / self.measured if self.measured else None

    @property
    def mean_reliability(self) -> float | None:
        """Of the backgrounds; None where they were not weighted."""
        return self.reliability / ONE / self.passes if self.passes else None

    @property
    def boxes_per_image(self) -> float | None:
        """Boxes of G_cls per unlabeled image; None without images."""
        return self.confident / self.images if self.images else None

    @property
    def labeled_boxes_per_image(self) -> float | None:
        """Objects per labeled image; None without images."""
        return sum(self.labeled_classes) / self.labeled_images if self.labeled_images else None

    @property
    def loss_ratio(self) -> float | None:
        """Mean loss of unlabeled images over that of labeled ones; None without the latter."""
        return self.unlabeled_loss / self.labeled_loss if self.labeled_loss > 0 else None

    def state_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict) -> "Totals":
        """Takes a state without the newer sums, too: they start from 0."""
        matches = {k: Matches(**state[k]) for k in ("classification", "regression")}
        counts = {k: tuple(v) for k, v in state.items() if isinstance(v, (list, tuple))}
        return cls(**{**state, **counts, **matches})


def _sum(a, b):
    """``a + b``, of tuples element by element; the shorter one continues with zeros."""
    if isinstance(a, tuple):
        return tuple(x + y for x, y in zip_longest(a, b, fillvalue=0))
    return a + b


def scalars(totals: Totals, class_names: Sequence[str] = ()) -> dict[str, float]:
    """What is logged of a window; a mean over nothing is left out."""
    found = {
        "pseudo/best_score": totals.best_score if totals.detections else None,
        "pseudo/mean_variance": totals.mean_variance,
        "unsup/mean_background_reliability": totals.mean_reliability,
        "pseudo/precision_cls": totals.classification.precision,
        "pseudo/recall_cls": totals.classification.recall,
        "pseudo/precision_reg": totals.regression.precision,
        "pseudo/recall_reg": totals.regression.recall,
        "pseudo/boxes_per_image": totals.boxes_per_image,
        "pseudo/labeled_boxes_per_image": totals.labeled_boxes_per_image,
    }
    if len(class_names) <= MOST_CLASSES:
        parts = [
            ("pseudo/boxes_per_image", totals.classes, totals.images),
            ("pseudo/labeled_boxes_per_image", totals.labeled_classes, totals.labeled_images),
        ]
        for name, counts, images in parts:
            per_class = zip_longest(class_names, counts[: len(class_names)], fillvalue=0)
            found.update({f"{name}/{c}": n / images if images else None for c, n in per_class})
    return {name: value for name, value in found.items() if value is not None}


class Window:
    """Keeps the views of steps on the device until their totals are needed."""

    def __init__(self):
        self.clear()

    def add(self, view: StepView) -> None:
        """Takes a step's view, without a host-device sync."""
        self._labeled.append([sample["instances"].gt_classes for sample in view.labeled])
        if not view.samples:
            return
        truths = [sample.get(HIDDEN_INSTANCES) for sample in view.samples]
        counts = [len(boxes.detections) for boxes in view.teacher_boxes]
        rows = table(view.teacher_boxes)
        self._waiting.append((rows, view.background_reliability, counts, truths))

    def add_losses(self, labeled: float, unlabeled: float) -> None:
        """Takes the losses of a step that has images of both streams."""
        sums = (round(loss * ONE) for loss in (labeled, unlabeled))
        self._read = self._read + Totals(**dict(zip(("labeled_loss", "unlabeled_loss"), sums)))

    def totals(self) -> Totals:
        """Everything since :meth:`clear`, on this rank. One copy from the device, if any."""
        self._read = self._read + _of_labels([image for step in self._labeled for image in step])
        if self._waiting:
            self._read = self._read + _totals(self._waiting)
        self._labeled, self._waiting = [], []
        return self._read

    def clear(self) -> None:
        self._labeled: list[list[torch.Tensor]] = []
        self._waiting: list[tuple] = []
        self._read = Totals()


def _of_labels(images: list[torch.Tensor]) -> Totals:
    classes = torch.cat(images).numpy() if images else np.zeros(0)
    return Totals(labeled_images=len(images), labeled_classes=_by_class(classes))


def _by_class(classes: np.ndarray) -> tuple[int, ...]:
    """How many there are of each class number, up to the highest."""
    return tuple(np.bincount(classes.astype(np.int64)).tolist())


def _totals(waiting: list[tuple]) -> Totals:
    tables, reliabilities, counts, truths = zip(*waiting)
    reliabilities = [r for r in reliabilities if r is not None]
    parts = [t.flatten() for t in tables] + [r.float().reshape(1) for r in reliabilities]
    numbers = torch.cat(parts).cpu().double().numpy()
    end = len(numbers) - len(reliabilities)
    rows = numbers[:end].reshape(-1, len(COLUMNS))
    count, total = _fixed_point(numbers[end:])
    found = Totals(passes=count, reliability=total) + _of_detections(rows)
    images = np.split(rows, np.cumsum([n for step in counts for n in step])[:-1])
    for image, truth in zip(images, [t for step in truths for t in step]):
        found = found + _against_truth(image, truth)
    return found


def _fixed_point(values: np.ndarray) -> tuple[int, int]:
    """How many values are finite, and their sum times ``ONE``."""
    finite = values[np.isfinite(values)]
    return len(finite), sum(round(value * ONE) for value in finite.tolist())


def _of_detections(rows: np.ndarray) -> Totals:
    scores, _ = np.histogram(rows[:, SCORE], SCORE_BINS, (0, 1))
    candidates = rows[:, CANDIDATE] > 0
    measured, variance = _fixed_point(rows[candidates, VARIANCE])
    return Totals(
        detections=len(rows),
        scores=tuple(scores.tolist()) if len(rows) else (),
        confident=int(rows[:, CONFIDENT].sum()),
        candidates=int(candidates.sum()),
        stable=int(rows[:, STABLE].sum()),
        classes=_by_class(rows[rows[:, CONFIDENT] > 0, CLASS]),
        measured=measured,
        variance=variance,
        best_score=float(rows[:, SCORE].max(initial=0)),
    )


def _against_truth(rows: np.ndarray, truth: Instances | None) -> Totals:
    return Totals(
        images=1,
        classification=_matches(rows[rows[:, CONFIDENT] > 0], truth),
        regression=_matches(rows[rows[:, STABLE] > 0], truth),
    )


def _matches(rows: np.ndarray, truth: Instances | None) -> Matches:
    if truth is None:
        return Matches()
    ground_truth = truth.gt_boxes.tensor.double().numpy(), truth.gt_classes.numpy()
    return match_boxes(rows[:, BOX], rows[:, CLASS], rows[:, SCORE], *ground_truth)
