"""The quality of a network's pseudo labels, as numbers and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..data.datasets.dataset_dicts import class_names
from ..experiment.trained import Trained
from ..utils.errors import ConfigError
from .box_measures import Correlation, Curve, correlation, foreground_curve
from .measured_boxes import MeasuredBoxes, join

__all__ = ["Findings", "Setting", "Table", "findings_of"]

POINT = ["score above", "boxes", "precision", "recall", "F1"]
MASKS = ["IoU of right boxes", "IoU of their masks"]
STEPS = 100  # of the score threshold, from 0 to 1
SHOWN = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ON_OBJECT = 0.5  # IoU


@dataclass(frozen=True)
class Setting:
    """What was measured.

    Attributes:
        network: "teacher" or "student".
        weights, dataset: their sources.
        images: how many were measured.
        class_names: by class number.
        lowest_score: the network reports boxes scored above it.
        score_thresh: boxes scored above it are pseudo boxes for classification.
        candidate_thresh: boxes scored above it are jittered.
        variance_thresh: those whose variance is below it are pseudo boxes for regression.
    """

    network: str
    weights: str
    dataset: str
    images: int
    class_names: Sequence[str]
    lowest_score: float
    score_thresh: float
    candidate_thresh: float
    variance_thresh: float


class Table(NamedTuple):
    """Rows under a header; None for a number that does not exist."""

    name: str
    title: str
    header: list[str]
    rows: list[list]


@dataclass(frozen=True)
class Findings:
    """The measures of Fig. 3 on the boxes of one network; boxes in a crowd are left out.

    Attributes:
        boxes: of all images.
        setting: that they were measured in.
    """

    boxes: MeasuredBoxes
    setting: Setting

    @cached_property
    def _judged(self) -> MeasuredBoxes:
        # Boxes in a crowd are neither right nor wrong.
        return self.boxes.where(~self.boxes.neutral)

    @cached_property
    def candidates(self) -> MeasuredBoxes:
        """The boxes of Fig. 3b and c."""
        return self._judged.where(self._judged.scores > self.setting.candidate_thresh)

    @cached_property
    def has_masks(self) -> bool:
        """Whether the masks of boxes were compared with those of their objects."""
        return bool(np.isfinite(self.boxes.mask_overlaps).any())

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        return (
            f"{self.setting.network} on {self.setting.dataset}: {self.setting.images:,} images, "
            f"{self.boxes.objects.sum():,} objects, {len(self.boxes.scores):,} boxes"
        )

    @cached_property
    def overall(self) -> Curve:
        """Of all classes together, at every hundredth of the score."""
        return self._curve(self._grid)

    @cached_property
    def per_class(self) -> list[Curve]:
        """Of each class, likewise."""
        return [self._curve(self._grid, n) for n in range(len(self.boxes.objects))]

    def named_curves(self) -> list[tuple[str, Curve]]:
        """All curves by name: "all", then the classes."""
        names = ["all", *self.setting.class_names]
        return list(zip(names, [self.overall, *self.per_class]))

    @cached_property
    def correlations(self) -> dict[str, Correlation]:
        """Of the IoU of the candidates with their score and variance (Fig. 3b, c)."""
        on_object = self.candidates.where(self.candidates.overlaps >= ON_OBJECT)
        return {
            f"{quantity}{part}": correlation(getattr(boxes, column), boxes.overlaps)
            for part, boxes in (("", self.candidates), (f", IoU >= {ON_OBJECT}", on_object))
            for quantity, column in (("score", "scores"), ("variance", "variances"))
        }

    def tables(self) -> list[Table]:
        """The tables beside the figure."""
        return [self._thresholds(), self._correlations(), self._kept(), self._classes()]

    @property
    def _grid(self) -> np.ndarray:
        grid = np.arange(STEPS) / STEPS
        return grid[grid >= self.setting.lowest_score]

    def _curve(self, thresholds: Sequence[float], category: int | None = None) -> Curve:
        boxes, objects = self._judged, self.boxes.objects
        if category is not None:
            boxes, objects = boxes.where(boxes.classes == category), objects[category]
        return foreground_curve(boxes.scores, boxes.hits, int(objects.sum()), thresholds)

    def _thresholds(self) -> Table:
        shown = sorted({*SHOWN, self.setting.score_thresh})
        curve = self._curve([t for t in shown if t >= self.setting.lowest_score])
        rows = [curve.point(place) for place in range(len(curve.thresholds))]
        return Table("thresholds", "(a) Foreground precision and recall", POINT, rows)

    def _correlations(self) -> Table:
        rows = [[name, c.count, c.pearson, c.spearman] for name, c in self.correlations.items()]
        title = f"(b, c) Correlation of IoU, boxes scored above {self.setting.candidate_thresh:g}"
        return Table("correlations", title, ["with", "boxes", "Pearson", "Spearman"], rows)

    def _kept(self) -> Table:
        setting, boxes = self.setting, self._judged
        confident = boxes.where(boxes.scores > setting.score_thresh)
        stable = boxes.where(boxes.variances < setting.variance_thresh)
        kept = {
            f"score > {setting.candidate_thresh:g} (candidates)": self.candidates,
            f"score > {setting.score_thresh:g} (for classification)": confident,
            f"variance < {setting.variance_thresh:g} (for regression)": stable,
        }
        rows = [
            [name, len(b.hits), _mean(b.hits), _mean(b.overlaps), *self._mask_quality(b)]
            for name, b in kept.items()
        ]
        header = ["kept", "boxes", "precision", "mean IoU", *MASKS * self.has_masks]
        return Table("pseudo_boxes", "Pseudo boxes", header, rows)

    def _classes(self) -> Table:
        rows = []
        for number, (name, curve) in enumerate(self.named_curves(), -1):
            best = curve.preferred
            point = [None] * len(POINT) if best is None else curve.point(best)
            boxes = self._judged
            boxes = boxes if number < 0 else boxes.where(boxes.classes == number)
            rows.append([name, curve.objects, *point, *self._mask_quality(boxes)])
        header = ["class", "objects", *POINT, *MASKS * self.has_masks]
        return Table("classes", "Threshold with the best F1 of precision and recall", header, rows)

    def _mask_quality(self, boxes: MeasuredBoxes) -> list:
        """Under ``MASKS``, of boxes that were compared; nothing if none were."""
        compared = boxes.where(np.isfinite(boxes.mask_overlaps))
        return [_mean(compared.overlaps), _mean(compared.mask_overlaps)] * self.has_masks


def findings_of(
    found: dict[int, MeasuredBoxes], trained: Trained, *, network: str, dataset: str
) -> Findings:
    """The findings about one network.

    Args:
        found: what :func:`~soft_teacher.analysis.measured_boxes.measure` returned.
        trained, network: its arguments.
        dataset: the loaded dataset of the images.

    Raises:
        ConfigError: there is no image, no object, or no box.
    """
    if not found:
        raise ConfigError("none of the images can be read: soft-teacher-check reports why")
    boxes = join(list(found.values()))
    lowest_score = trained.model.family.score_floor(trained.model.student)
    if not boxes.objects.any():
        raise ConfigError(f"the {len(found)} images have no object: measure more with --images")
    if not len(boxes.scores):
        raise ConfigError(
            f"the {network} detects nothing above a score of {lowest_score:g} in {len(found)} "
            "images: are these the right weights?"
        )
    labeler = trained.model.pseudo_labeler
    setting = Setting(
        network=network,
        weights=trained.weights,
        dataset=dataset,
        images=len(found),
        class_names=class_names([dataset]) or [str(n) for n in range(trained.num_classes)],
        lowest_score=lowest_score,
        score_thresh=labeler.score_thresh,
        candidate_thresh=labeler.candidate_thresh,
        variance_thresh=labeler.variance_thresh,
    )
    return Findings(boxes, setting)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
