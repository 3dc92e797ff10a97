"""Every operation of Table 2 in words, with its parameters."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from soft_teacher.analysis.transform_text import describe
from soft_teacher.data.augmentation import photometric as P
from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)

H, W = 100, 200


def affine(matrix):
    return AffineTransform(matrix, H, W)


def turn(degrees):
    """Clockwise as seen, the y axis points down."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return [[cos, -sin, 3], [sin, cos, -4]]


PHRASES = [
    (ResizeTransform(H, W, 150, 300), "resize x1.50 to 300x150"),
    (FlipTransform(W), "flip"),
    (affine([[1, 0, 10], [0, 1, -8]]), "translate x +5.0% y -8.0%"),
    (affine([[1, 0, 10], [0, 1, 0]]), "translate x +5.0%"),
    (affine([[1, 0, 0], [0, 1, 10]]), "translate y +10.0%"),
    (affine(np.eye(3)), "translate by nothing"),
    (affine(turn(-12)), "rotate -12.0°"),
    (affine(turn(30)), "rotate +30.0°"),
    (affine([[1, 1, 0], [0, 1, 0]]), "shear x +45.0° y +0.0°"),
    (affine([[1, 0, 0], [-1, 1, 0]]), "shear x +0.0° y -45.0°"),
    (affine([[1, 1, 0], [-1, 0, 0]]), "shear x +45.0° y -45.0°"),
    (affine([[-1, 0, 5], [0, 1, 0]]), "affine -1 0 5 0 1 0"),
    (affine([[2, 0, 5], [0, 2, 0]]), "affine 2 0 5 0 2 0"),
    (CutoutTransform([]), "cutout nothing"),
    (CutoutTransform([[1, 2, 31, 22], [0, 0, 5, 7]]), "cutout 30x20 + 5x7"),
    (P.SolarizeTransform(143), "solarize at 143"),
    (P.BrightnessTransform(0.434), "brightness x0.43"),
    (P.ContrastTransform(1.9), "contrast x1.90"),
    (P.SharpnessTransform(0.1), "sharpness x0.10"),
    (P.SaturationTransform(1.0), "saturation x1.00"),
    (P.PosterizeTransform(2), "posterize to 2 bits"),
    (P.AutoContrastTransform(), "autocontrast"),
    (P.EqualizeTransform(), "equalize"),
    (T.VFlipTransform(H), "VFlip"),
]


def test_nothing_is_nothing():
    assert describe([]) == []
    assert describe([T.NoOpTransform()]) == []


@pytest.mark.parametrize("transform, phrase", PHRASES, ids=[phrase for _, phrase in PHRASES])
def test_the_phrase_of_a_transform(transform, phrase):
    assert describe([T.NoOpTransform(), transform]) == [phrase]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_all_that_a_policy_draws_has_a_phrase_of_its_own(name, variant):
    np.random.seed(0)
    policy = T.AugmentationList(build_policy(name, variant, short_edge=24, max_size=40))
    known = {phrase.split()[0] for _, phrase in PHRASES} - {"affine", "VFlip"}
    for _ in range(60):
        transforms = policy(T.AugInput(np.zeros((20, 30, 3), np.uint8))).transforms
        phrases = describe(transforms)
        assert {phrase.split()[0] for phrase in phrases} <= known
        acting = [t for t in transforms if not isinstance(t, T.NoOpTransform)]
        assert len(phrases) == len(acting)
