"""A contact sheet of the augmentations of Table 2 on some images."""

import os
import textwrap
from collections.abc import Callable, Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from .augmented_views import Policies, View, draw_views

__all__ = ["augmentation_sheet"]

DPI = 110
TILE = 2.2  # inches
MAX_ASPECT = 1.5  # of a tile's height to its width
TITLE, SMALL_PRINT = 8, 5.5  # points
LINE_SPACING = 1.5
LINE = 46  # characters of small print under a tile


def augmentation_sheet(
    dicts: Sequence[dict],
    policies: dict[str, Policies],
    path: str,
    *,
    class_names: Sequence[str] = (),
    num_draws: int = 1,
    seed: int = 0,
) -> None:
    """Draws a row per image and set of policies: original, labeled, then weak beside strong views.

    Boxes have one colour per class. In a strong view the solid box encloses the transformed box,
    whose exact outline is dotted. The operations are listed below each view.

    Args:
        dicts: images in Detectron2's format, with annotations or without.
        policies: name -> policies, e.g. for "paper" and "reference".
        path: of the PNG file.
        class_names: by category id; other classes go by their number.
        num_draws: labeled views, and pairs of views, per row.
        seed: of all draws.

    Raises:
        ConfigError: an image file cannot be read, or the policies cannot be used.
    """
    rows = [
        (
            f"{name}: {os.path.basename(sample['file_name'])}",
            draw_views(sample, variant, num_draws=num_draws, seed=seed, index=index),
        )
        for name, variant in policies.items()
        for index, sample in enumerate(dicts)
    ]
    figure, axes = _grid([views for _, views in rows])

    def name_of(category: int) -> str:
        return class_names[category] if category < len(class_names) else str(category)

    for line, (label, views) in zip(axes, rows):
        line[0].set_ylabel(label, fontsize=TITLE)
        for axis, view in zip(line, views):
            _draw(axis, view, name_of)
    figure.savefig(path, format="png", dpi=DPI)


def _grid(rows: list[list[View]]):
    """A figure with an axis per view; each row is as high as its original and its small print."""
    heights = []
    for views in rows:
        height, width = views[0].image.shape[:2]
        lines = max(_small_print(view).count("\n") + 1 for view in views)
        text = (TITLE + lines * SMALL_PRINT) * LINE_SPACING / 72
        heights.append(TILE * min(height / width, MAX_ASPECT) + text)
    columns = len(rows[0])
    figure = Figure(figsize=(TILE * columns + 0.3, sum(heights)), layout="constrained")
    ratios = {"height_ratios": heights}
    return figure, figure.subplots(len(rows), columns, squeeze=False, gridspec_kw=ratios)


def _small_print(view: View) -> str:
    # Lines break between phrases and in a list of cutouts, not at a non-breaking space.
    joined = "\N{NO-BREAK SPACE}"
    phrases = (p.replace(" ", joined).replace("+" + joined, "+ ") for p in view.text)
    return textwrap.fill(", ".join(phrases) or "nothing", LINE, break_long_words=False)


def _draw(axis, view: View, name_of: Callable[[int], str]) -> None:
    height, width = view.image.shape[:2]
    # Pixel i covers [i, i + 1), as in the boxes.
    axis.imshow(view.image, extent=(0, width, height, 0))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(view.title, fontsize=TITLE, pad=2)
    axis.set_xlabel(_small_print(view), fontsize=SMALL_PRINT, labelpad=2)
    colors = [colormaps["tab10"](category % 10) for category in view.classes]
    for corners, color in zip(view.outlines.tolist(), colors):
        axis.add_patch(Polygon(corners, fill=False, edgecolor=color, linewidth=1, linestyle=":"))
    for (x0, y0, x1, y1), category, color in zip(view.boxes.tolist(), view.classes, colors):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color))
        label = dict(facecolor=color, edgecolor="none", pad=0.6, alpha=0.8)
        place = dict(fontsize=SMALL_PRINT, va="top", color="white", clip_on=True)
        axis.text(x0, y0, name_of(category), bbox=label, **place)
