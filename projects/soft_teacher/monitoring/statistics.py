"""Sums over many steps, and what is logged of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest

from ..evaluation.pseudo_label_quality import Matches
from ..modeling.step_record import MOST_CLASSES

__all__ = ["ONE", "SCORE_BINS", "Totals", "scalars"]

# Means are summed in fixed point: such sums are exact, however ranks or interruptions divide them.
ONE = 2**40
# Scores are counted in so many bins of equal width.
SCORE_BINS = 20


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
        masks, mask_iou: pseudo masks of G_reg whose box found an object with a known mask, by class
            number, and the sums of their IoU with it times ``ONE``.
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
    masks: tuple[int, ...] = ()
    mask_iou: tuple[int, ...] = ()
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
    def mean_mask_iou(self) -> float | None:
        """Of pseudo masks with the masks of their objects; None without any."""
        return sum(self.mask_iou) / ONE / sum(self.masks) if any(self.masks) else None

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
        "pseudo/mask_iou": totals.mean_mask_iou,
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
        per_class = zip(class_names, totals.mask_iou, totals.masks)
        found.update({f"pseudo/mask_iou/{c}": s / ONE / n for c, s, n in per_class if n})
    return {name: value for name, value in found.items() if value is not None}
