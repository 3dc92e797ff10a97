"""The three columns of Table 2 as lists of augmentations.

Every function takes a variant: "paper" follows the table, "reference" the authors' released code.
Where the table is silent (horizontal flip, signs, fill colour, shear about the corner) both take
the released value.
"""

from detectron2.data.transforms import Augmentation, NoOpTransform

from ...utils.checks import check_choice
from ...utils.errors import ConfigError
from . import color as C
from . import photometric as P
from . import spatial as A

NAMES = ("labeled", "strong", "weak")
VARIANTS = ("paper", "reference")
KEY = "build_policy"


def weak_policy(
    variant: str = "paper",
    *,
    short_edge: int = 800,
    max_size: int = 1333,
    scale_range: tuple[float, float] = (0.5, 1.5),
    flip: bool = True,
) -> list[Augmentation]:
    """Return column 3, pseudo-label generation: scale jitter, then flip.

    Args:
        variant: "paper" or "reference".
        short_edge: short edge in pixels at scale 1.
        max_size: limit of the long edge in pixels.
        scale_range: range of the scale.
        flip: flip horizontally half of the time; False where a mirror image is another class.

    Raises:
        ConfigError: for an unknown variant, or sizes and scales that no image can have.
    """
    check_choice(f"{KEY}.variant", variant, VARIANTS)
    _check_sizes(short_edge, max_size, scale_range)
    integer = variant == "reference"
    scale = A.ShortEdgeScaleJitter(short_edge, max_size, scale_range, integer)
    return [scale, A.RandomHorizontalFlip()] if flip else [scale]


def labeled_policy(
    variant: str = "paper", *, image_format: str = "BGR", **view
) -> list[Augmentation]:
    """Return column 1, labeled training: the weak view, colour jitter, and the paper's cutout.

    Args:
        variant: "paper" or "reference".
        image_format: "BGR" or "RGB", the order of the channels.
        view: keywords of :func:`weak_policy`.

    Raises:
        ConfigError: as :func:`weak_policy`.
    """
    cutout = [A.RandomCutout()] if variant == "paper" else []
    return weak_policy(variant, **view) + _colour(variant, image_format) + cutout


def strong_policy(
    variant: str = "paper", *, max_angle: float = 30.0, image_format: str = "BGR", **view
) -> list[Augmentation]:
    """Return column 2, unlabeled training: the weak view, colour, geometry, cutout.

    Args:
        variant: "paper" or "reference".
        max_angle: largest angle of rotation and shear in degrees.
        image_format: "BGR" or "RGB", the order of the channels.
        view: keywords of :func:`weak_policy`.

    Raises:
        ConfigError: as :func:`weak_policy`, and for an angle outside [0, 90).
    """
    if not 0 <= max_angle < 90:
        raise ConfigError(f"{KEY}.max_angle must be at least 0 and below 90, got {max_angle}")
    view = weak_policy(variant, **view)
    colour = _colour(variant, image_format)
    angle = (0.0, max_angle)
    if variant == "paper":
        return view + colour + _geometry(angle) + [A.RandomCutout()]
    shuffled = A.RandomOrder(colour + [_one_geometry(angle)])
    return view + [shuffled, A.RandomCutout(num=(1, 4), ratio=(0.0, 0.2))]


def build_policy(
    name: str,
    variant: str = "paper",
    *,
    short_edge: int = 800,
    max_size: int = 1333,
    scale_range: tuple[float, float] = (0.5, 1.5),
    flip: bool = True,
    max_angle: float = 30.0,
    image_format: str = "BGR",
) -> list[Augmentation]:
    """Return the policy ``name``: "labeled", "strong" (student) or "weak" (teacher).

    One signature for configuration; ``max_angle`` matters to "strong" alone, ``image_format`` to
    "labeled" and "strong". See :func:`labeled_policy`, :func:`strong_policy`, :func:`weak_policy`.

    Raises:
        ConfigError: for an unknown name, and as those functions.
    """
    check_choice("policy name", name, NAMES)
    view = dict(short_edge=short_edge, max_size=max_size, scale_range=scale_range, flip=flip)
    if name == "weak":
        return weak_policy(variant, **view)
    if name == "labeled":
        return labeled_policy(variant, image_format=image_format, **view)
    return strong_policy(variant, max_angle=max_angle, image_format=image_format, **view)


def _check_sizes(short_edge: int, max_size: int, scale_range: tuple[float, float]) -> None:
    for name, size in (("short_edge", short_edge), ("max_size", max_size)):
        if not size >= 1:
            raise ConfigError(f"{KEY}.{name} must be at least 1 pixel, got {size}")
    if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
        raise ConfigError(
            f"{KEY}.scale_range must be two scales above 0, the smaller one first, got "
            f"{tuple(scale_range)}"
        )


def _colour(variant: str, image_format: str) -> list[Augmentation]:
    if variant == "paper":
        plain = [C.RandomSolarize(), C.RandomBrightness()]
        return plain + [C.RandomContrast(image_format=image_format), C.RandomSharpness()]
    return [_one_colour(image_format)]


def _one_colour(image_format: str) -> Augmentation:
    level = dict(prob=1.0, ratio=(0.1, 0.9), step=0.1)
    return A.OneOf(
        [
            NoOpTransform(),
            P.AutoContrastTransform(),
            P.EqualizeTransform(),
            C.RandomSolarize(**level),
            C.RandomSaturation(**level, image_format=image_format),
            C.RandomContrast(**level, image_format=image_format),
            C.RandomBrightness(**level),
            C.RandomSharpness(**level),
            C.RandomPosterize(**level),
        ]
    )


def _geometry(angle: tuple[float, float]) -> list[Augmentation]:
    return [A.RandomTranslation(), A.RandomRotate(angle=angle), A.RandomShear(angle=angle)]


def _one_geometry(angle: tuple[float, float]) -> Augmentation:
    return A.OneOf(
        [
            A.RandomTranslation(prob=1.0, axes="x"),
            A.RandomTranslation(prob=1.0, axes="y"),
            A.RandomRotate(prob=1.0, angle=angle),
            A.RandomShear(prob=1.0, angle=angle, slope="tanh"),
        ]
    )
