"""The three columns of Table 2 as lists of augmentations.

The variant "paper" follows the table, "reference" the authors' released code.
Where the table is silent (horizontal flip, signs, fill colour, shear about the corner) both take
the released value.
"""

from detectron2.data.transforms import Augmentation, NoOpTransform

from ...utils.checks import check_choice
from ...utils.errors import ConfigError
from . import color as C
from . import photometric as P
from . import spatial as A

__all__ = ["build_policy"]

NAMES = ("labeled", "strong", "weak")
VARIANTS = ("paper", "reference")
KEY = "build_policy"


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
    """The policy of one column.

    Args:
        name: "labeled" (column 1: scale jitter, flip, colour, and the paper's cutout), "strong"
            (column 2, the student's view: also geometry, then cutout) or "weak" (column 3, the
            teacher's view: scale jitter and flip alone).
        variant: "paper" or "reference".
        short_edge: short edge in pixels at scale 1.
        max_size: limit of the long edge in pixels.
        scale_range: range of the scale.
        flip: flip horizontally half of the time; False where a mirror image is another class.
        max_angle: largest angle of rotation and shear in degrees ("strong").
        image_format: "BGR" or "RGB", the order of the channels ("labeled" and "strong").

    Raises:
        ConfigError: for an unknown name or variant, for sizes and scales that no image can have,
            and for an angle outside [0, 90) if the policy is "strong".
    """
    check_choice("policy name", name, NAMES)
    check_choice(f"{KEY}.variant", variant, VARIANTS)
    _check_sizes(short_edge, max_size, scale_range)
    is_paper = variant == "paper"
    view: list[Augmentation] = [
        A.ShortEdgeScaleJitter(short_edge, max_size, scale_range, integer=not is_paper)
    ]
    view += [A.RandomHorizontalFlip()] if flip else []
    colour = _colour(image_format) if is_paper else [_one_colour(image_format)]
    if name == "weak":
        return view
    if name == "labeled":
        return view + colour + ([A.RandomCutout()] if is_paper else [])
    if not 0 <= max_angle < 90:
        raise ConfigError(f"{KEY}.max_angle must be at least 0 and below 90, got {max_angle}")
    angle = (0.0, max_angle)
    if is_paper:
        return view + colour + _geometry(angle) + [A.RandomCutout()]
    shuffled = A.RandomOrder(colour + [_one_geometry(angle)])
    return view + [shuffled, A.RandomCutout(num=(1, 4), ratio=(0.0, 0.2))]


def _check_sizes(short_edge: int, max_size: int, scale_range: tuple[float, float]) -> None:
    for name, size in (("short_edge", short_edge), ("max_size", max_size)):
        if not size >= 1:
            raise ConfigError(f"{KEY}.{name} must be at least 1 pixel, got {size}")
    if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
        raise ConfigError(
            f"{KEY}.scale_range must be two scales above 0, the smaller one first, got "
            f"{tuple(scale_range)}"
        )


def _colour(image_format: str) -> list[Augmentation]:
    contrast = C.RandomContrast(image_format=image_format)
    return [C.RandomSolarize(), C.RandomBrightness(), contrast, C.RandomSharpness()]


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
