"""Images with boxes, masks and class names drawn on them.

Detectron2's Visualizer draws with matplotlib, which takes longer than most detectors.
"""

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from ...utils.atomic import atomic_write
from ..detections import Detections

__all__ = ["draw", "write_picture"]

FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
# Sizes as shares of an image's longer side, in pixels at least these.
TEXT, LINE = 1 / 60, 1 / 400
SMALLEST_TEXT, THINNEST_LINE = 11, 1
RIM = (16, 16, 16)
MASK_SHARE = 0.45
JPEG_QUALITY = 92
# Neighbouring classes are far apart on the colour wheel.
GOLDEN = 0.618034


def draw(image: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """A copy of an RGB image, uint8 (H, W, 3), with what was found; the most confident on top."""
    side = max(image.shape[:2])
    line = max(THINNEST_LINE, round(side * LINE))
    font = _font(max(SMALLEST_TEXT, round(side * TEXT)))
    canvas = Image.fromarray(_with_masks(image, found))
    pen = ImageDraw.Draw(canvas)
    for place in reversed(range(len(found.boxes))):
        number = found.classes[place]
        x0, y0, x1, y1 = map(round, found.boxes[place])
        box = [x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)]
        # A dark rim, so that one of both differs from whatever is below.
        pen.rectangle(_grown(box, 1), outline=RIM, width=line + 2)
        pen.rectangle(box, outline=_color(number), width=line)
        text = f"{class_names[number]} {found.scores[place]:.0%}"
        _label(pen, text, box, font, _color(number), canvas.size)
    return np.asarray(canvas)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Writes an RGB image, as JPEG or what the suffix says.

    Raises:
        OSError: it cannot be written.
    """
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, data = cv2.imencode(path.suffix, image[:, :, ::-1], flags)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(str(path), "wb") as file:
        file.write(data.tobytes())


def _with_masks(image: np.ndarray, found: Detections) -> np.ndarray:
    if not found.masks:
        return np.ascontiguousarray(image)
    image = image.copy()
    for number, encoded in reversed(list(zip(found.classes, found.masks))):
        inside = coco_mask.decode(encoded).astype(bool)
        color = np.array(_color(number))
        image[inside] = (1 - MASK_SHARE) * image[inside] + MASK_SHARE * color
    return image


def _label(pen, text: str, box, font, color, size: tuple[int, int]) -> None:
    """Writes above a box; inside at the border of the image."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0, min(box[0], size[0] - width))
    y = box[1] - height if box[1] >= height else box[1]
    pen.rectangle([x, y, x + width, y + height], fill=color)
    pen.text((x + 2 - left, y + 2 - top), text, fill=RIM, font=font)


def _grown(box: Sequence[int], by: int) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0 - by, y0 - by, x1 + by, y1 + by]


@lru_cache
def _color(number: int) -> tuple[int, int, int]:
    """A light colour for each class."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.6, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)
