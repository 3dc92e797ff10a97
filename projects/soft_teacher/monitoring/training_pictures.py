"""A picture of one unlabeled image of a step: the teacher's view beside the student's."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.structures import Instances
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ..data.unlabeled_annotations import GIVEN_INSTANCES
from ..modeling.step_record import StepView, TeacherBoxes

__all__ = ["COLORS", "training_figure", "training_picture"]

# Kept for classification, kept for regression, dropped; safe for color blindness.
COLORS = {"classification": "#ff8c00", "regression": "#00a5ff", "dropped": "#bdbdbd"}
# In the order in which outlines are drawn, and that of the legend.
STYLES = {
    "dropped": dict(linewidth=0.8, linestyle="-"),
    "classification": dict(linewidth=3.0, linestyle="-"),
    "regression": dict(linewidth=1.5, linestyle="--"),
}
LABELS = {
    "classification": "kept for classification",
    "regression": "kept for regression",
    "dropped": "dropped",
}
# Dropped boxes that are drawn, those with the highest scores.
MOST_DROPPED = 15
# Share of the height that a line of text takes.
MARGIN = 0.03
DPI = 100
SIDE = 6.4  # inches, the longer side of a view
TITLE, SMALL_PRINT = 11, 7  # points


def training_picture(view: StepView, **options) -> np.ndarray:
    """:func:`training_figure` as an RGB image, uint8 (H, W, 3)."""
    figure = training_figure(view, **options)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()


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
    both sets has both outlines.

    Args:
        view: with at least one image.
        class_names: by class number; other classes go by their number.
        image_format: of the samples, "BGR" or "RGB".
        title: of the whole.
    """

    def name_of(category: int) -> str:
        return class_names[category] if category < len(class_names) else str(category)

    sample = view.samples[0]
    images = [_rgb(sample[key], image_format) for key in ("weak_image", "image")]
    figure = Figure(figsize=_size(images), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    weak, strong = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=TITLE)
    source = "precomputed pseudo labels" if GIVEN_INSTANCES in sample else "what the teacher finds"
    _show(weak, images[0], f"weak view: {source}")
    _show(strong, images[1], "strong view: what the student learns")
    _draw_teacher_boxes(weak, view.teacher_boxes[0], name_of)
    for kind in ("classification", "regression"):
        _draw_targets(strong, getattr(view.labels, kind)[0], kind, name_of)
    lines = [Line2D([], [], color=COLORS[kind], **STYLES[kind]) for kind in LABELS]
    figure.legend(lines, LABELS.values(), loc="outside lower center", ncols=3, fontsize=TITLE - 2)
    return figure


def _rgb(image: torch.Tensor, image_format: str) -> np.ndarray:
    array = image.cpu().numpy().transpose(1, 2, 0)
    return array[:, :, ::-1] if image_format == "BGR" else array


def _size(images: list[np.ndarray]):
    """Of the figure: the longest side of a view has ``SIDE`` inches."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    scale = SIDE / max(height, width)
    return 2 * width * scale + 0.2, height * scale + 0.9


def _show(axis, image: np.ndarray, title: str) -> None:
    height, width = image.shape[:2]
    # Pixel i covers [i, i + 1), as in the boxes.
    axis.imshow(image, extent=(0, width, height, 0))
    axis.set_title(title, fontsize=TITLE - 1)
    axis.set_xticks([])
    axis.set_yticks([])


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
            _outline(axis, boxes[row], kind)
    # Certain boxes last, so that their text is on top.
    for row in sorted({row for rows in kept.values() for row in rows}, key=scores.__getitem__):
        text = f"{name_of(classes[row])} {scores[row]:.2f}"
        if row in variances:
            text += f" var {variances[row]:.3f}"
        kind = next(kind for kind in LABELS if row in kept[kind])
        _write(axis, boxes[row], text, kind)


def _draw_targets(axis, targets: Instances, kind: str, name_of: Callable[[int], str]) -> None:
    for box, category in zip(targets.gt_boxes.tensor.tolist(), targets.gt_classes.tolist()):
        _outline(axis, box, kind)
        _write(axis, box, name_of(category), kind)


def _outline(axis, box: list[float], kind: str) -> None:
    x0, y0, x1, y1 = box
    style = dict(fill=False, edgecolor=COLORS[kind], **STYLES[kind])
    axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **style))


def _write(axis, box: list[float], text: str, kind: str) -> None:
    """Below the box for regression, else above it, inside at the view's border.

    So the two texts of a box of both sets do not overlap.
    """
    height = axis.get_ylim()[0]
    y = box[3] if kind == "regression" else box[1]
    hangs = y < MARGIN * height or (kind == "regression" and y < (1 - MARGIN) * height)
    paper = dict(facecolor=COLORS[kind], edgecolor="none", pad=0.8, alpha=0.85)
    place = dict(fontsize=SMALL_PRINT, va="top" if hangs else "bottom", clip_on=True, bbox=paper)
    axis.text(max(box[0], 0), y, text, color="black", **place)
