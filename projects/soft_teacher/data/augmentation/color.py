"""Random colour jitters of Table 2, and those that the authors' released code adds.

They sample a ratio r from the global ``np.random`` and return a transform of a uint8 image that
moves nothing. Defaults are the values of Table 2.
"""

import numpy as np
from detectron2.data.transforms import Transform

from . import photometric as P
from .spatial import RandomAugmentation, Range

__all__ = [
    "RandomBrightness",
    "RandomContrast",
    "RandomPosterize",
    "RandomSaturation",
    "RandomSharpness",
    "RandomSolarize",
]


class RandomColorOp(RandomAugmentation):
    """Base of the colour jitters: subclasses return a transform from ``_at(r)``.

    Args:
        prob: chance to act.
        ratio: range of the ratio r.
        step: if given, r is one of low, low + step, ..., high instead of any value between.
        image_format: order of the channels, "BGR" or "RGB"; contrast and saturation depend on it.
    """

    def __init__(
        self,
        prob: float = 0.25,
        ratio: Range = (0.0, 1.0),
        step: float | None = None,
        image_format: str = "BGR",
    ):
        super().__init__()
        self._init(locals())

    def _sample(self, image):
        low, high = self.ratio
        if self.step is None:
            return self._at(float(self._rand_range(low, high)))
        steps = np.random.randint(round((high - low) / self.step) + 1)
        return self._at(low + steps * self.step)

    def _at(self, r: float) -> Transform:
        raise NotImplementedError


def _enhancement(r: float) -> float:
    """The enhancement factor; at 0 the image would be lost."""
    return 0.1 + 1.8 * r


class RandomSolarize(RandomColorOp):
    """Table 2, "Solarize jitter" (columns 1 and 2), threshold 256 r."""

    def _at(self, r):
        return P.SolarizeTransform(int(256 * r))


class RandomBrightness(RandomColorOp):
    """Table 2, "Brightness jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.BrightnessTransform(_enhancement(r))


class RandomSharpness(RandomColorOp):
    """Table 2, "Sharpness jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.SharpnessTransform(_enhancement(r))


class RandomContrast(RandomColorOp):
    """Table 2, "Constrast jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.ContrastTransform(_enhancement(r), self.image_format)


class RandomSaturation(RandomColorOp):
    """Released code only: jitter of the saturation."""

    def _at(self, r):
        return P.SaturationTransform(_enhancement(r), self.image_format)


class RandomPosterize(RandomColorOp):
    """Released code only: keep 4 - floor(4 r) bits, at least one."""

    def _at(self, r):
        return P.PosterizeTransform(max(4 - int(4 * r), 1))
