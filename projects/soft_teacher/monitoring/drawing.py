"""Images with boxes and masks on matplotlib's axes, visible on any photograph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.patheffects import withStroke

__all__ = [
    "DPI",
    "RIM",
    "TITLE",
    "Style",
    "class_color",
    "class_namer",
    "draw_label",
    "draw_mask",
    "draw_outline",
    "legend_handle",
    "new_figure",
    "picture_of",
    "rgb_image",
    "show_image",
]

DPI = 100
TITLE, SMALL_PRINT = 11, 7  # points
# Under every line lies a wider dark one, so that one of both differs from whatever is below.
RIM, RIM_WIDTH = "#101010", 0.9  # points, on either side
# Rims of all boxes are below the lines of all boxes, and masks below both.
LOWEST, BELOW, ABOVE = 0.5, 1, 2
# How much of an image its mask hides, and the width of its outline in points.
OPACITY, MASK_LINE = 0.35, 1.0
# Share of the height that a line of text takes.
MARGIN = 0.03


@dataclass(frozen=True)
class Style:
    """A light colour, and the width (points) and dashes of a line as matplotlib has them."""

    color: str
    linewidth: float
    linestyle: str | tuple = "-"


def class_namer(class_names: Sequence[str]) -> Callable[[int], str]:
    """class number -> its name, or the number where there is none."""

    def name_of(category: int) -> str:
        return class_names[category] if category < len(class_names) else str(category)

    return name_of


def class_color(category: int) -> str:
    """The colour of a class, which it shares with every tenth."""
    return to_hex(colormaps["tab10"](category % 10))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, of ``DPI``."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def picture_of(figure: Figure) -> np.ndarray:
    """A figure as an RGB image, uint8 (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()


def rgb_image(image: torch.Tensor, image_format: str) -> np.ndarray:
    """An image of a sample, uint8 (C, H, W) in "BGR" or "RGB", as RGB (H, W, C)."""
    array = image.cpu().numpy().transpose(1, 2, 0)
    return array[:, :, ::-1] if image_format == "BGR" else array


def show_image(axis: Axes, image: np.ndarray, title: str, size: tuple | None = None) -> None:
    """Shows an RGB image; ``size`` (height, width) is that of its boxes' frame if it differs."""
    height, width = size or image.shape[:2]
    # Pixel i covers [i, i + 1), as in the boxes.
    axis.imshow(image, extent=(0, width, height, 0))
    axis.set_title(title, fontsize=TITLE - 1, parse_math=False)
    axis.set_xticks([])
    axis.set_yticks([])


def draw_outline(axis: Axes, box: list[float], style: Style) -> None:
    """Draws a box, XYXY in the frame of the image."""
    x0, y0, x1, y1 = box
    for color, width, dashes, order in (
        (RIM, style.linewidth + 2 * RIM_WIDTH, "-", BELOW),
        (style.color, style.linewidth, style.linestyle, ABOVE),
    ):
        look = dict(edgecolor=color, linewidth=width, linestyle=dashes, zorder=order)
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, **look))


def draw_mask(axis: Axes, polygons: Sequence[np.ndarray], color: str) -> None:
    """Draws a mask, translucent with an outline.

    Args:
        polygons: (x0, y0, x1, y1, ...) in the frame of the image; holes turn the other way round.
    """
    corners = [np.reshape(polygon, (-1, 2)) for polygon in polygons]
    if not corners:
        return
    closed = [Path(np.vstack([c, c[:1]]), closed=True) for c in corners]
    look = dict(facecolor=(*to_rgb(color), OPACITY), edgecolor=color, linewidth=MASK_LINE)
    rim = withStroke(linewidth=MASK_LINE + 2 * RIM_WIDTH, foreground=RIM)
    path = Path.make_compound_path(*closed)
    axis.add_patch(PathPatch(path, **look, zorder=LOWEST, path_effects=[rim]))


def draw_label(axis: Axes, box: list[float], text: str, color: str, *, below: bool = False) -> None:
    """Writes above a box, or below it; inside at the border of the image."""
    height = axis.get_ylim()[0]
    y = min(max(box[3] if below else box[1], 0), height)
    hangs = y < MARGIN * height or (below and y < (1 - MARGIN) * height)
    paper = dict(facecolor=color, edgecolor="none", pad=0.8, alpha=0.85)
    place = dict(fontsize=SMALL_PRINT, va="top" if hangs else "bottom", clip_on=True, bbox=paper)
    # Dollars in the name of a class are no formula.
    axis.text(max(box[0], 0), y, text, color="black", parse_math=False, **place)


def legend_handle(style: Style) -> tuple[Line2D, Line2D]:
    """A piece of an outline for a legend."""
    line = dict(linewidth=style.linewidth, linestyle=style.linestyle)
    rim = Line2D([], [], color=RIM, linewidth=style.linewidth + 2 * RIM_WIDTH)
    return rim, Line2D([], [], color=style.color, **line)
