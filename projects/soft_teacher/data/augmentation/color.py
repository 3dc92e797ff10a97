"""Random colour jitters of Table 2, and those that the authors' released code adds.

They draw a ratio r from the global ``np.random`` and return a transform of a uint8 image that moves
nothing. Defaults are the values of Table 2.
"""

import numpy as np
from detectron2.data.transforms import Transform

from . import photometric as P
from .spatial import RandomAugmentation, Range


class RandomColorOp(RandomAugmentation):
    """Base of the colour jitters: subclasses return a transform from ``_at(r)``.

    Args:
        prob: chance to act.
        ratio: range of the ratio r.
        step: if given, r is one of low, low + step, ..., high instead of any value between.
    """

    def __init__(self, prob: float = 0.25, ratio: Range = (0.0, 1.0), step: float | None = None):
        super().__init__()
        self._init(locals())

    def _draw(self, image):
        return self._at(self._ratio())

    def _ratio(self) -> float:
        low, high = self.ratio
        if self.step is None:
            return float(self._rand_range(low, high))
        steps = np.random.randint(round((high - low) / self.step) + 1)
        return low + steps * self.step

    def _at(self, r: float) -> Transform:
        raise NotImplementedError


def enhancement_factor(r: float) -> float:
    """Return the enhancement factor 0.1 + 1.8 r; at 0 the image would be lost."""
    return 0.1 + 1.8 * r


class RandomSolarize(RandomColorOp):
    """Table 2, "Solarize jitter" (columns 1 and 2), threshold 256 r."""

    def _at(self, r):
        return P.SolarizeTransform(int(256 * r))


class RandomBrightness(RandomColorOp):
    """Table 2, "Brightness jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.BrightnessTransform(enhancement_factor(r))


class RandomSharpness(RandomColorOp):
    """Table 2, "Sharpness jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.SharpnessTransform(enhancement_factor(r))


class RandomPosterize(RandomColorOp):
    """Released code only: keep 4 - floor(4 r) bits, at least one."""

    def _at(self, r):
        return P.PosterizeTransform(max(4 - int(4 * r), 1))


class _FormattedColorOp(RandomColorOp):
    """A colour jitter that needs to know the order of the channels, "BGR" or "RGB"."""

    def __init__(
        self,
        prob: float = 0.25,
        ratio: Range = (0.0, 1.0),
        step: float | None = None,
        image_format: str = "BGR",
    ):
        super().__init__(prob, ratio, step)
        self.image_format = image_format


class RandomContrast(_FormattedColorOp):
    """Table 2, "Constrast jitter" (columns 1 and 2)."""

    def _at(self, r):
        return P.ContrastTransform(enhancement_factor(r), self.image_format)


class RandomSaturation(_FormattedColorOp):
    """Released code only: jitter of the saturation."""

    def _at(self, r):
        return P.SaturationTransform(enhancement_factor(r), self.image_format)
