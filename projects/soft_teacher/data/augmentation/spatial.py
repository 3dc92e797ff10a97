"""Random scale, geometry and cutout of Table 2, with the options of the authors' released code.

Each samples its parameters from the global ``np.random``, as Detectron2's do, and returns a
deterministic transform. Defaults are the values of Table 2. ``prob`` is the chance that the
augmentation acts at all; ranges are closed intervals. What leaves or enters the frame is filled
with ``fill``, a grey level or one per channel. Images are uint8, (H, W, C) or (H, W).
"""

from collections.abc import Sequence

import numpy as np
from detectron2.data.transforms import (
    Augmentation,
    AugmentationList,
    NoOpTransform,
    ResizeShortestEdge,
    Transform,
)

from ...utils.checks import check_choice
from .transforms import AffineTransform, CutoutTransform, FlipTransform, ResizeTransform

__all__ = [
    "NonEmptyResize",
    "OneOf",
    "RandomCutout",
    "RandomHorizontalFlip",
    "RandomOrder",
    "RandomRotate",
    "RandomShear",
    "RandomTranslation",
    "ShortEdgeScaleJitter",
    "never_empty",
]

Range = tuple[float, float]
Fill = float | Sequence[float]

GREY = 125


class ShortEdgeScaleJitter(Augmentation):
    """Table 2, "Scale jitter" (all columns): short edge of ``base * U(scale_range)`` pixels.

    Args:
        base: short edge in pixels at scale 1.
        max_size: the long edge never exceeds this, the short one then shrinks with it.
        scale_range: of the scale.
        integer: sample the edge uniformly from the integers of that range, as the released code
            does, instead of rounding after both edges are known.
    """

    def __init__(
        self,
        base: int = 800,
        max_size: int = 1333,
        scale_range: Range = (0.5, 1.5),
        integer: bool = False,
    ):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        h, w = image.shape[:2]
        low, high = (self.base * scale for scale in self.scale_range)
        if self.integer:
            short_edge = np.random.randint(round(low), round(high) + 1)
        else:
            short_edge = float(self._rand_range(low, high))
        new_h, new_w = ResizeShortestEdge.get_output_shape(h, w, short_edge, self.max_size)
        # A very long image may be rounded to nothing.
        return ResizeTransform(h, w, max(new_h, 1), max(new_w, 1))


class NonEmptyResize(ResizeShortestEdge):
    """Detectron2's resize, of which a very long image keeps a pixel of its short edge."""

    def get_transform(self, image: np.ndarray) -> Transform:
        found = super().get_transform(image)
        if isinstance(found, NoOpTransform) or min(found.new_h, found.new_w) > 0:
            return found
        size = max(found.new_h, 1), max(found.new_w, 1)
        return type(found)(found.h, found.w, *size, found.interp)


def never_empty(augmentation: Augmentation | Transform) -> Augmentation | Transform:
    """The same augmentation, and :class:`NonEmptyResize` for Detectron2's resize."""
    if type(augmentation) is not ResizeShortestEdge:
        return augmentation
    names = ("short_edge_length", "max_size", "sample_style", "interp")
    return NonEmptyResize(**{name: getattr(augmentation, name) for name in names})


class RandomAugmentation(Augmentation):
    """Base: with chance ``prob``, the transform that a subclass returns from ``_sample(image)``."""

    prob: float

    def get_transform(self, image: np.ndarray) -> Transform:
        if self._rand_range() >= self.prob:
            return NoOpTransform()
        return self._sample(image)

    def _sample(self, image: np.ndarray) -> Transform:
        raise NotImplementedError

    def _signed(self, low: float, high: float, size: int | None = None):
        """A random magnitude from a range, then a random sign."""
        return self._rand_range(low, high, size) * np.random.choice((-1, 1), size)


class RandomHorizontalFlip(RandomAugmentation):
    """Mirror left and right. Not in Table 2; the released code flips in all columns."""

    def __init__(self, prob: float = 0.5):
        super().__init__()
        self._init(locals())

    def _sample(self, image):
        return FlipTransform(image.shape[1])


class RandomTranslation(RandomAugmentation):
    """Table 2, "Translation" (column 2): move by a signed fraction of the side.

    Args:
        ratio: range of the fraction, sampled for each axis.
        axes: "x", "y" or "xy".

    Raises:
        ConfigError: for other axes.
    """

    def __init__(
        self, prob: float = 0.3, ratio: Range = (0.0, 0.1), axes: str = "xy", fill: Fill = GREY
    ):
        super().__init__()
        check_choice("RandomTranslation.axes", axes, ("x", "y", "xy"))
        self._init(locals())

    def _sample(self, image):
        h, w = image.shape[:2]
        moving = np.array(["x" in self.axes, "y" in self.axes])
        offset = self._signed(*self.ratio, size=2) * (w, h) * moving
        return AffineTransform(np.column_stack([np.eye(2), offset]), h, w, self.fill)


class RandomRotate(RandomAugmentation):
    """Table 2, "Rotate" (column 2): turn by a signed angle about the centre of the image.

    Args:
        angle: range of the angle in degrees, before the sign.
    """

    def __init__(self, prob: float = 0.3, angle: Range = (0.0, 30.0), fill: Fill = GREY):
        super().__init__()
        self._init(locals())

    def _sample(self, image):
        h, w = image.shape[:2]
        angle = np.deg2rad(self._signed(*self.angle))
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([w, h]) / 2
        return AffineTransform(np.column_stack([turn, centre - turn @ centre]), h, w, self.fill)


_SLOPES = {"tan": np.tan, "tanh": np.tanh}


class RandomShear(RandomAugmentation):
    """Table 2, "Shift" (column 2): shear along x, then along y, each by its own signed angle.

    The top left corner stays, as in the released code.

    Args:
        angle: range of the angles in degrees, before the sign.
        slope: "tan" for the slope of that angle, "tanh" as the released code computes it.

    Raises:
        ConfigError: for another slope.
    """

    def __init__(
        self, prob: float = 0.3, angle: Range = (0.0, 30.0), slope: str = "tan", fill: Fill = GREY
    ):
        super().__init__()
        check_choice("RandomShear.slope", slope, sorted(_SLOPES))
        self._init(locals())

    def _sample(self, image):
        along_x, along_y = _SLOPES[self.slope](np.deg2rad(self._signed(*self.angle, size=2)))
        shear = np.array([[1, 0], [along_y, 1]]) @ np.array([[1, along_x], [0, 1]])
        return AffineTransform(np.column_stack([shear, np.zeros(2)]), *image.shape[:2], self.fill)


class RandomCutout(Augmentation):
    """Table 2, "Cutout" (columns 1 and 2): paint rectangles at random places in the image.

    Args:
        num: smallest and largest number of rectangles.
        ratio: range of a rectangle's share of both sides of the image.
    """

    def __init__(
        self, num: tuple[int, int] = (1, 5), ratio: Range = (0.05, 0.2), fill: Fill = GREY
    ):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        size = np.array(image.shape[1::-1])
        count = np.random.randint(self.num[0], self.num[1] + 1)
        sides = (self._rand_range(*self.ratio, size=(count, 1)) * size).astype(int)
        corners = np.random.randint(size - sides + 1)
        return CutoutTransform(np.hstack([corners, corners + sides]), self.fill)


class OneOf(Augmentation):
    """Apply exactly one of ``augs``, each equally likely. As a list, without ``get_transform``."""

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        super().__init__()
        self.augs = [AugmentationList([aug]) for aug in augs]

    def __call__(self, aug_input) -> Transform:
        return self.augs[np.random.randint(len(self.augs))](aug_input)


class RandomOrder(Augmentation):
    """Apply all of ``augs`` in a random order. As a list, without ``get_transform``."""

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        super().__init__()
        self.augs = list(augs)

    def __call__(self, aug_input) -> Transform:
        order = np.random.permutation(len(self.augs))
        return AugmentationList([self.augs[i] for i in order])(aug_input)
