"""Transforms of an image as short phrases."""

from collections.abc import Iterable

import numpy as np
from detectron2.data import transforms as T

from ..data.augmentation import photometric as P
from ..data.augmentation.transforms import AffineTransform, CutoutTransform

__all__ = ["describe"]


def describe(transforms: Iterable[T.Transform]) -> list[str]:
    """One phrase for each transform that acts, with its parameters.

    Args:
        transforms: e.g. a ``TransformList``'s ``transforms``, as sampled by an augmentation.

    Returns:
        phrases such as "rotate -12.0°" (clockwise is positive), "translate x +3.1% y -8.0%" (of
        the width, of the height; right and down are positive), "solarize at 143", "brightness
        x0.43", "cutout 60x40 + 30x20" (pixels). Others than ours go by their class name.
    """
    return [_phrase(t) for t in transforms if not isinstance(t, T.NoOpTransform)]


def _phrase(transform: T.Transform) -> str:
    for kind, text in _PHRASES.items():
        if isinstance(transform, kind):
            return text(transform)
    return type(transform).__name__.removesuffix("Transform")


def _affine(transform: AffineTransform) -> str:
    """The operation by its matrix, whatever sampled it."""
    (a, b, x), (c, d, y) = transform.matrix
    linear = transform.matrix[:, :2]
    if np.allclose(linear, np.eye(2)):
        moves = (("x", x / transform.w), ("y", y / transform.h))
        return "translate " + (" ".join(f"{k} {v:+.1%}" for k, v in moves if v) or "by nothing")
    if np.allclose(linear @ linear.T, np.eye(2)) and a * d > b * c:
        return f"rotate {np.degrees(np.arctan2(c, a)):+.1f}°"
    if np.isclose(a * d - b * c, 1) and np.isclose(a, 1):
        along_x, along_y = np.degrees(np.arctan([b, c]))
        return f"shear x {along_x:+.1f}° y {along_y:+.1f}°"
    return "affine " + " ".join(f"{value:.3g}" for value in transform.matrix.ravel())


def _cutout(transform: CutoutTransform) -> str:
    sides = transform.rectangles[:, 2:] - transform.rectangles[:, :2]
    return "cutout " + (" + ".join(f"{w}x{h}" for w, h in sides) or "nothing")


_PHRASES = {
    T.ResizeTransform: lambda t: f"resize x{t.new_h / t.h:.2f} to {t.new_w}x{t.new_h}",
    T.HFlipTransform: lambda t: "flip",
    AffineTransform: _affine,
    CutoutTransform: _cutout,
    P.SolarizeTransform: lambda t: f"solarize at {t.threshold:g}",
    P.BrightnessTransform: lambda t: f"brightness x{t.factor:.2f}",
    P.ContrastTransform: lambda t: f"contrast x{t.factor:.2f}",
    P.SharpnessTransform: lambda t: f"sharpness x{t.factor:.2f}",
    P.SaturationTransform: lambda t: f"saturation x{t.factor:.2f}",
    P.PosterizeTransform: lambda t: f"posterize to {t.bits} bits",
    P.AutoContrastTransform: lambda t: "autocontrast",
    P.EqualizeTransform: lambda t: "equalize",
}
