"""A picture of one unlabeled image of a step: the teacher's view beside the student's."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.structures import Instances
from matplotlib.figure import Figure

from ..data.unlabeled_annotations import GIVEN_INSTANCES
from ..evaluation.mask_polygons import roi_polygons
from ..modeling.step_record import StepView, TeacherBoxes
from .drawing import (
    TITLE,
    Style,
    class_color,
    class_namer,
    draw_label,
    draw_mask,
    draw_outline,
    legend_handle,
    new_figure,
    picture_of,
    rgb_image,
    show_image,
)

__all__ = ["STYLES", "training_figure", "training_picture"]

# Safe for color blindness; in the order in which outlines are drawn.
STYLES = {
    "dropped": Style("#e8e8e8", 1.2, (0, (2, 1.5))),
    "classification": Style("#ff8c00", 3.0),
    "regression": Style("#00a5ff", 1.5, "--"),
}
# In the order of the legend.
LABELS = {
    "classification": "kept for classification",
    "regression": "kept for regression",
    "dropped": "dropped",
}
# Dropped boxes that are drawn, those with the highest scores.
MOST_DROPPED = 15
MASK_SIDE = 28  # cells of a pseudo mask that is cropped to its box
SIDE = 6.4  # inches, the longer side of a view


def training_picture(view: StepView, **options) -> np.ndarray:
    """:func:`training_figure` as an RGB image, uint8 (H, W, 3)."""
    return picture_of(training_figure(view, **options))


def training_figure(
    view: StepView,
    *,
    class_names: Sequence[str] = (),
    image_format: str = "BGR",
    title: str = "",
) -> Figure:
    """Draws the first image of a step's view.

    On the left the weak view with the teacher's boxes, their class, score and (of jittered ones)
    variance; on the right the strong view with G_cls and G_reg as the student gets them. A box of
    both sets has both outlines. Masks have the colour of their class: on the left those of kept
    boxes, on the right those of G_reg.

    Args:
        view: with at least one image.
        class_names: by class number; other classes go by their number.
        image_format: of the samples, "BGR" or "RGB".
        title: of the whole.
    """
    name_of = class_namer(class_names)
    sample = view.samples[0]
    images = [rgb_image(sample[key], image_format) for key in ("weak_image", "image")]
    figure = new_figure(*_size(images))
    weak, strong = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=TITLE)
    source = "precomputed pseudo labels" if GIVEN_INSTANCES in sample else "what the teacher finds"
    show_image(weak, images[0], f"weak view: {source}")
    show_image(strong, images[1], "strong view: what the student learns")
    _draw_teacher_masks(weak, view.teacher_boxes[0])
    _draw_teacher_boxes(weak, view.teacher_boxes[0], name_of)
    _draw_target_masks(strong, view.labels.regression[0])
    for kind in ("classification", "regression"):
        _draw_targets(strong, getattr(view.labels, kind)[0], kind, name_of)
    lines = [legend_handle(STYLES[kind]) for kind in LABELS]
    figure.legend(lines, LABELS.values(), loc="outside lower center", ncols=3, fontsize=TITLE - 2)
    return figure


def _size(images: list[np.ndarray]):
    """Of the figure: the longest side of a view has ``SIDE`` inches."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    scale = SIDE / max(height, width)
    return 2 * width * scale + 0.2, height * scale + 0.9


def _draw_teacher_masks(axis, found: TeacherBoxes) -> None:
    if found.detections.has("pred_masks"):
        kept = found.detections[torch.cat([found.confident, found.stable]).unique()]
        masks = kept.pred_masks[:, 0], kept.pred_boxes.tensor, kept.image_size
        _draw_masks(axis, *masks, kept.pred_classes)


def _draw_target_masks(axis, targets: Instances) -> None:
    if targets.has("gt_masks"):
        boxes = targets.gt_boxes.tensor
        masks = targets.gt_masks.crop_and_resize(boxes, MASK_SIDE)
        _draw_masks(axis, masks, boxes, targets.image_size, targets.gt_classes)


def _draw_masks(axis, masks, boxes, size: tuple[int, int], classes: torch.Tensor) -> None:
    for polygons, category in zip(roi_polygons(masks, boxes, size).polygons, classes.tolist()):
        draw_mask(axis, polygons, class_color(category))


def _draw_teacher_boxes(axis, found: TeacherBoxes, name_of: Callable[[int], str]) -> None:
    boxes = found.detections.pred_boxes.tensor.tolist()
    scores = found.detections.scores.tolist()
    classes = found.detections.pred_classes.tolist()
    variances = dict(zip(found.candidates.tolist(), found.variances.tolist()))
    kept = {"classification": found.confident.tolist(), "regression": found.stable.tolist()}
    dropped = set(range(len(boxes))).difference(*kept.values())
    kept["dropped"] = sorted(dropped, key=lambda row: -scores[row])[:MOST_DROPPED]
    for kind in STYLES:
        for row in kept[kind]:
            draw_outline(axis, boxes[row], STYLES[kind])
    # Certain boxes last, so that their text is on top.
    for row in sorted({row for rows in kept.values() for row in rows}, key=scores.__getitem__):
        text = f"{name_of(classes[row])} {scores[row]:.2f}"
        if row in variances:
            text += f" var {variances[row]:.3f}"
        kind = next(kind for kind in LABELS if row in kept[kind])
        _write(axis, boxes[row], text, kind)


def _draw_targets(axis, targets: Instances, kind: str, name_of: Callable[[int], str]) -> None:
    for box, category in zip(targets.gt_boxes.tensor.tolist(), targets.gt_classes.tolist()):
        draw_outline(axis, box, STYLES[kind])
        _write(axis, box, name_of(category), kind)


def _write(axis, box: list[float], text: str, kind: str) -> None:
    """The two texts of a box of both sets do not overlap."""
    draw_label(axis, box, text, STYLES[kind].color, below=kind == "regression")
