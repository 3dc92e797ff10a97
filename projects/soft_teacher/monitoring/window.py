"""The views of steps until their numbers are needed, with one host-device sync for all of them."""

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Instances

from ..data.unlabeled_annotations import HIDDEN_INSTANCES
from ..evaluation.pseudo_label_quality import NO_OBJECT, match_boxes, matched_objects
from ..evaluation.pseudo_mask_quality import HeldMasks
from ..modeling.step_record import COLUMNS, StepView, TeacherBoxes, table
from .statistics import ONE, SCORE_BINS, Totals

__all__ = ["Window"]

BOX = slice(0, 4)
SCORE, CLASS, CONFIDENT, CANDIDATE, VARIANCE, STABLE = range(4, len(COLUMNS))


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
        images = list(map(_Image.of, view.teacher_boxes, truths))
        self._waiting.append((table(view.teacher_boxes), view.background_reliability, images))

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


@dataclass(frozen=True)
class _Image:
    """What waits of an unlabeled image, beside the table of its detections.

    Attributes:
        count: of its detections.
        boxes, classes: (m, 4) and (m,) of the ground truth, on the host; None if it is unknown.
        true_masks: of the same objects; None if nothing is to be compared with them.
        masks: (k, M, M) of G_reg in the order of the detections, on the device.
    """

    count: int
    boxes: torch.Tensor | None = None
    classes: torch.Tensor | None = None
    true_masks: HeldMasks | None = None
    masks: torch.Tensor | None = None

    @classmethod
    def of(cls, found: TeacherBoxes, truth: Instances | None) -> "_Image":
        detections, count = found.detections, len(found.detections)
        if truth is None:
            return cls(count)
        known = count, truth.gt_boxes.tensor, truth.gt_classes
        if not (len(found.stable) and detections.has("pred_masks") and truth.has("gt_masks")):
            return cls(*known)
        masks = detections.pred_masks[found.stable.sort().values, 0]
        return cls(*known, HeldMasks(truth.gt_masks), masks)

    @property
    def objects(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and classes of the ground truth."""
        return self.boxes.double().numpy(), self.classes.numpy()


def _of_labels(images: list[torch.Tensor]) -> Totals:
    classes = torch.cat(images).numpy() if images else np.zeros(0)
    return Totals(labeled_images=len(images), labeled_classes=_by_class(classes))


def _by_class(classes: np.ndarray) -> tuple[int, ...]:
    """How many there are of each class number, up to the highest."""
    return tuple(np.bincount(classes.astype(np.int64)).tolist())


def _totals(waiting: list[tuple]) -> Totals:
    tables, reliabilities, steps = zip(*waiting)
    images = [image for step in steps for image in step]
    masks = [image.masks for image in images if image.masks is not None]
    known = [r.reshape(1) for r in reliabilities if r is not None]
    numbers = iter(_on_host([*tables, *known, *masks]))
    rows = np.concatenate([next(numbers) for _ in tables])
    count, total = _fixed_point(np.array([next(numbers)[0] for _ in known]))
    found = Totals(passes=count, reliability=total) + _of_detections(rows)
    for image, part in zip(images, np.split(rows, np.cumsum([i.count for i in images])[:-1])):
        found = found + _against_truth(part, image)
        if image.masks is not None:
            found = found + _of_masks(part[part[:, STABLE] > 0], next(numbers), image)
    return found


def _on_host(tensors: list[torch.Tensor]) -> list[np.ndarray]:
    """Tensors of the same device as float64 arrays, with one copy."""
    numbers = torch.cat([t.float().flatten() for t in tensors]).cpu().double().numpy()
    parts = np.split(numbers, np.cumsum([t.numel() for t in tensors])[:-1])
    return [part.reshape(t.shape) for part, t in zip(parts, tensors)]


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


def _against_truth(rows: np.ndarray, image: _Image) -> Totals:
    if image.boxes is None:
        return Totals(images=1)
    kinds = {"classification": CONFIDENT, "regression": STABLE}
    found = {
        kind: match_boxes(*_pseudo_boxes(rows[rows[:, column] > 0]), *image.objects)
        for kind, column in kinds.items()
    }
    return Totals(images=1, **found)


def _of_masks(rows: np.ndarray, masks: np.ndarray, image: _Image) -> Totals:
    """The masks of rows whose boxes have found an object."""
    objects = matched_objects(*_pseudo_boxes(rows), *image.objects)
    hits = objects != NO_OBJECT
    if not hits.any():
        return Totals()
    ious = image.true_masks.iou(objects[hits], masks[hits], rows[hits, BOX])
    classes = rows[hits, CLASS]
    counts = _by_class(classes)
    sums = [_fixed_point(ious[classes == number])[1] for number in range(len(counts))]
    return Totals(masks=counts, mask_iou=tuple(sums))


def _pseudo_boxes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rows[:, BOX], rows[:, CLASS], rows[:, SCORE]
