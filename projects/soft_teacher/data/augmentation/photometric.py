"""Deterministic colour transforms of uint8 images; nothing here moves a pixel.

They compute what Pillow's ``ImageEnhance`` and ``ImageOps`` compute, within one grey level, but
with OpenCV on arrays: a transform is one table look-up, one matrix or one 3x3 filter. Images are
(H, W, C) or (H, W). An *enhancement factor* of
1 keeps the image, 0 gives the degenerate one (black, flat grey, blurred, colourless), and more
than 1 exaggerates.
"""

import math

import cv2
import numpy as np

from .transforms import UnmovedTransform

__all__ = [
    "AutoContrastTransform",
    "BrightnessTransform",
    "ContrastTransform",
    "EqualizeTransform",
    "PhotometricTransform",
    "PosterizeTransform",
    "SaturationTransform",
    "SharpnessTransform",
    "SolarizeTransform",
]

# ITU-R 601 luma, as in Pillow's conversion to grey.
_LUMA = {"RGB": (0.299, 0.587, 0.114), "BGR": (0.114, 0.587, 0.299)}
_LEVELS = np.arange(256, dtype=np.float32)


def _is_colour(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[2] == 3


def _blend_table(degenerate_level: float, factor: float) -> np.ndarray:
    levels = degenerate_level + factor * (_LEVELS - degenerate_level)
    return np.clip(levels, 0, 255).astype(np.uint8)


class PhotometricTransform(UnmovedTransform):
    """Base of the colour transforms: subclasses define ``_recolour(image)``.

    Raises:
        ValueError: by ``apply_image``, if the image is not uint8.
    """

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if img.dtype != np.uint8:
            raise ValueError(f"{type(self).__name__} needs a uint8 image, not {img.dtype}")
        # OpenCV drops a channel axis of length one, and rejects images without pixels.
        return self._recolour(img).reshape(img.shape) if img.size else img

    def _recolour(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class SolarizeTransform(PhotometricTransform):
    """Invert every grey level at or above ``threshold`` (0-256)."""

    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def _recolour(self, image):
        highest_kept = math.ceil(self.threshold) - 1
        inverted = cv2.threshold(image, highest_kept, 255, cv2.THRESH_BINARY)[1]
        # 255 xor a level inverts it; faster than a table.
        return cv2.bitwise_xor(image, inverted, inverted)


class _Enhancement(PhotometricTransform):
    """Base: ``factor`` is the enhancement factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor


class _GreyEnhancement(_Enhancement):
    """Base of what depends on the grey version of the image.

    Args:
        factor: enhancement factor.
        image_format: "BGR" or "RGB", the order of the channels.
    """

    def __init__(self, factor: float, image_format: str = "BGR"):
        super().__init__(factor)
        if image_format not in _LUMA:
            raise ValueError(f"image_format {image_format!r} is not one of {sorted(_LUMA)}")
        self.image_format = image_format
        self._luma = np.array(_LUMA[image_format])


class BrightnessTransform(_Enhancement):
    """Multiply by the enhancement factor: blend with black."""

    def _recolour(self, image):
        return cv2.LUT(image, _blend_table(0, self.factor))


class ContrastTransform(_GreyEnhancement):
    """Blend with a flat image of the mean grey level of this image."""

    def _recolour(self, image):
        means = cv2.mean(image)[:3]
        grey = means @ self._luma if _is_colour(image) else means[0]
        return cv2.LUT(image, _blend_table(int(grey + 0.5), self.factor))


class SharpnessTransform(_Enhancement):
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13; the outermost pixels stay."""

    def _recolour(self, image):
        kernel = np.full((3, 3), (1 - self.factor) / 13, dtype=np.float32)
        kernel[1, 1] = self.factor + 5 * (1 - self.factor) / 13
        result = cv2.filter2D(image, -1, kernel).reshape(image.shape)
        result[[0, -1]] = image[[0, -1]]
        result[:, [0, -1]] = image[:, [0, -1]]
        return result


class SaturationTransform(_GreyEnhancement):
    """Blend with the grey version of the image (Pillow's ``Color``); grey images stay."""

    def _recolour(self, image):
        if not _is_colour(image):
            return image
        to_grey = np.tile(self._luma, (3, 1))
        return cv2.transform(image, self.factor * np.eye(3) + (1 - self.factor) * to_grey)


class PosterizeTransform(PhotometricTransform):
    """Keep the ``bits`` highest bits (1-8) of each channel."""

    def __init__(self, bits: int):
        super().__init__()
        if not 1 <= bits <= 8:
            raise ValueError(f"bits must be between 1 and 8, not {bits}")
        self.bits = bits

    def _recolour(self, image):
        mask = 256 - 2 ** (8 - self.bits)
        return cv2.LUT(image, np.arange(256, dtype=np.uint8) & np.uint8(mask))


class _HistogramTransform(PhotometricTransform):
    """A table per channel, made from that channel's histogram by ``_table(counts)``."""

    def __init__(self):
        # Without parameters of its own; Detectron2's repr reads this signature.
        super().__init__()

    def _recolour(self, image):
        channels = image.shape[2] if image.ndim == 3 else 1
        tables = [
            self._table(cv2.calcHist([image], [c], None, [256], [0, 256]).ravel().astype(np.int64))
            for c in range(channels)
        ]
        return cv2.LUT(image, np.stack(tables, axis=-1)[None])

    def _table(self, counts: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class AutoContrastTransform(_HistogramTransform):
    """Stretch each channel to 0-255; a channel of one level stays."""

    def _table(self, counts):
        present = np.flatnonzero(counts)
        low, high = present[0], present[-1]
        if low == high:
            return np.arange(256, dtype=np.uint8)
        return np.clip((np.arange(256) - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


class EqualizeTransform(_HistogramTransform):
    """Flatten each channel's histogram; a channel of one level stays."""

    def _table(self, counts):
        present = counts[counts > 0]
        step = (present.sum() - present[-1]) // 255
        if len(present) <= 1 or step == 0:
            return np.arange(256, dtype=np.uint8)
        below = np.cumsum(counts) - counts
        return np.clip((step // 2 + below) // step, 0, 255).astype(np.uint8)
