"""A picture of some test images: their ground truth beside what a network detects."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.examples import Example
from .drawing import (
    TITLE,
    Style,
    class_color,
    class_namer,
    draw_label,
    draw_mask,
    draw_outline,
    new_figure,
    picture_of,
    rgb_image,
    show_image,
)

__all__ = ["validation_figure", "validation_picture"]

TRUE, DETECTED = Style("#6fe06f", 1.8), Style("#ff8c00", 1.8)
# Detections with lower scores are left out, as in Detectron2's demo.
SCORE = 0.5
SIDE = 5.0  # inches, the longer side of an image
LEAST_HEIGHT = 0.3  # inches
MOST_LETTERS = 30  # of a file's name


def validation_picture(examples: Sequence[Example], **options) -> np.ndarray:
    """:func:`validation_figure` as an RGB image, uint8 (H, W, 3)."""
    return picture_of(validation_figure(examples, **options))


def validation_figure(
    examples: Sequence[Example],
    *,
    class_names: Sequence[str] = (),
    image_format: str = "BGR",
    title: str = "",
) -> Figure:
    """Draws a row per image: the ground truth on the left, detections on the right.

    Masks have the colour of their class.

    Args:
        examples: at least one.
        class_names: by class number; other classes go by their number.
        image_format: of the images, "BGR" or "RGB".
        title: of the whole.
    """
    name_of = class_namer(class_names)
    heights = [_height(example) for example in examples]
    figure = new_figure(2 * SIDE + 0.2, sum(heights) + 0.3 * len(heights) + 0.3)
    figure.suptitle(title, fontsize=TITLE)
    rows = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for (left, right), example in zip(rows, examples):
        image = rgb_image(example.image, image_format)
        show_image(left, image, _title_of(example), example.detections.image_size)
        show_image(right, image, _detected_title(example), example.detections.image_size)
        _draw_truth(left, example, name_of)
        _draw_detections(right, example, name_of)
    return figure


def _height(example: Example) -> float:
    height, width = example.detections.image_size
    return max(SIDE * height / max(height, width), LEAST_HEIGHT)


def _title_of(example: Example) -> str:
    name, count = Path(example.file_name).name, len(example.classes)
    name = name if len(name) <= MOST_LETTERS else f"...{name[-MOST_LETTERS:]}"
    return f"{name}: {count} {'object' if count == 1 else 'objects'}"


def _detected_title(example: Example) -> str:
    scores = example.detections.scores
    if not len(scores):
        return "no detection"
    return f"{int((scores >= SCORE).sum())} detected with {SCORE} or more, best {scores.max():.2f}"


def _draw_truth(axis: Axes, example: Example, name_of: Callable[[int], str]) -> None:
    for box, category, mask in zip(example.boxes.tolist(), example.classes, example.masks.polygons):
        draw_mask(axis, mask, class_color(category))
        draw_outline(axis, box, TRUE)
        draw_label(axis, box, name_of(category), TRUE.color)


def _draw_detections(axis: Axes, example: Example, name_of: Callable[[int], str]) -> None:
    found = example.detections[example.detections.scores >= SCORE]
    # Certain boxes last, so that their text is on top.
    found = found[found.scores.argsort(stable=True)]
    boxes, scores = found.pred_boxes.tensor.tolist(), found.scores.tolist()
    classes = found.pred_classes.tolist()
    if found.has("pred_masks"):
        for mask, category in zip(found.pred_masks.polygons, classes):
            draw_mask(axis, mask, class_color(category))
    for box, score, category in zip(boxes, scores, classes):
        draw_outline(axis, box, DETECTED)
        draw_label(axis, box, f"{name_of(category)} {score:.2f}", DETECTED.color)
