import collections

import numpy as np
import pytest
from detectron2.data import transforms as T

from soft_teacher.data import augmentation as A
from soft_teacher.data import color_augmentation as C
from soft_teacher.data import photometric as P
from soft_teacher.data.policies import (
    NAMES,
    VARIANTS,
    build_policy,
    labeled_policy,
    strong_policy,
    weak_policy,
)
from soft_teacher.data.transforms import AffineTransform, CutoutTransform, FlipTransform
from soft_teacher.geometry import transform_matrix

IMAGE = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype=np.uint8)
SMALL = dict(short_edge=32, max_size=60)
every_policy = pytest.mark.parametrize(
    "name, variant", [(name, variant) for name in NAMES for variant in VARIANTS]
)

SCALE_AND_FLIP = [A.ShortEdgeScaleJitter, A.RandomHorizontalFlip]
COLOUR = [C.RandomSolarize, C.RandomBrightness, C.RandomContrast, C.RandomSharpness]
GEOMETRY = [A.RandomTranslation, A.RandomRotate, A.RandomShear]
COLUMNS = {
    "weak": SCALE_AND_FLIP,
    "labeled": SCALE_AND_FLIP + COLOUR + [A.RandomCutout],
    "strong": SCALE_AND_FLIP + COLOUR + GEOMETRY + [A.RandomCutout],
}
# Every number of Table 2.
TABLE_2 = {
    A.ShortEdgeScaleJitter: dict(base=800, max_size=1333, scale_range=(0.5, 1.5), integer=False),
    A.RandomHorizontalFlip: dict(prob=0.5),
    **{op: dict(prob=0.25, ratio=(0, 1), step=None) for op in COLOUR},
    A.RandomTranslation: dict(prob=0.3, ratio=(0, 0.1), axes="xy"),
    A.RandomRotate: dict(prob=0.3, angle=(0, 30)),
    A.RandomShear: dict(prob=0.3, angle=(0, 30), slope="tan"),
    A.RandomCutout: dict(num=(1, 5), ratio=(0.05, 0.2)),
}


def run(policy, count=400, seed=0):
    """Transform lists of ``count`` draws."""
    np.random.seed(seed)
    return [T.AugmentationList(policy)(T.AugInput(IMAGE)) for _ in range(count)]


def kinds(transforms, base):
    return [type(t) for t in transforms.transforms if isinstance(t, base)]


@pytest.mark.parametrize("name", NAMES)
def test_paper_policies_are_the_columns_of_table_2(name):
    policy = build_policy(name)
    assert [type(augmentation) for augmentation in policy] == COLUMNS[name]
    for augmentation in policy:
        for attribute, value in TABLE_2[type(augmentation)].items():
            assert getattr(augmentation, attribute) == value, (augmentation, attribute)


@every_policy
def test_policies_run_on_real_images_and_are_decided_by_the_seed(name, variant):
    policy = build_policy(name, variant, **SMALL)
    first, again, other = (run(policy, 40, seed) for seed in (0, 0, 1))
    assert str(first) == str(again) != str(other)
    for transforms in first:
        image = transforms.apply_image(IMAGE)
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert max(image.shape[:2]) <= 60
        transform_matrix(transforms)


@every_policy
def test_the_boxes_of_a_view_follow_its_matrix(name, variant):
    for transforms in run(build_policy(name, variant, **SMALL), 40):
        matrix = transform_matrix(transforms)
        points = np.random.uniform(0, 30, (5, 2))
        np.testing.assert_allclose(
            transforms.apply_coords(points.copy()),
            points @ matrix[:2, :2].T + matrix[:2, 2],
            atol=1e-6,
        )


def test_reference_weak_view_is_an_integer_short_edge_and_a_flip():
    scale, flip = weak_policy("reference")
    assert (scale.base, scale.max_size, scale.scale_range) == (800, 1333, (0.5, 1.5))
    assert scale.integer and flip.prob == 0.5


NINE_COLOURS = {
    T.NoOpTransform,
    P.AutoContrastTransform,
    P.EqualizeTransform,
    P.SolarizeTransform,
    P.SaturationTransform,
    P.ContrastTransform,
    P.BrightnessTransform,
    P.SharpnessTransform,
    P.PosterizeTransform,
}


def test_reference_labeled_view_takes_one_of_nine_colours_and_no_cutout():
    runs = run(labeled_policy("reference", flip=False, **SMALL), 1800)
    assert {len(transforms) for transforms in runs} == {2}
    counts = collections.Counter(type(transforms[1]) for transforms in runs)
    assert set(counts) == NINE_COLOURS
    for count in counts.values():
        assert abs(count - 200) <= 4 * np.sqrt(1800 * (1 / 9) * (8 / 9))


def geometry_of(transforms):
    (transform,) = (t for t in transforms.transforms if isinstance(t, AffineTransform))
    linear, shift = transform.matrix[:, :2], transform.matrix[:, 2]
    if np.array_equal(linear, np.eye(2)):
        return "translate x" if shift[1] == 0 else "translate y"
    return "shear" if np.array_equal(shift, [0, 0]) else "rotate"


def test_reference_strong_view_takes_exactly_one_of_four_geometries():
    runs = run(strong_policy("reference", **SMALL), 1200)
    counts = collections.Counter(geometry_of(transforms) for transforms in runs)
    assert set(counts) == {"translate x", "translate y", "rotate", "shear"}
    for count in counts.values():
        assert abs(count - 300) <= 4 * np.sqrt(1200 * 0.25 * 0.75)


def test_reference_strong_view_shuffles_colour_and_geometry():
    runs = run(strong_policy("reference", flip=False, **SMALL), 800)
    colour_first = sum(not isinstance(t[1], AffineTransform) for t in runs)
    assert abs(colour_first - 400) <= 4 * np.sqrt(800 * 0.25)


def test_reference_shears_by_tanh_and_fills_with_125():
    runs = run(strong_policy("reference", **SMALL), 1200)
    affine = [t for r in runs for t in r.transforms if isinstance(t, AffineTransform)]
    assert {t.fill for t in affine} == {125}
    slopes = [t.matrix[0, 1] for r, t in zip(runs, affine) if geometry_of(r) == "shear"]
    assert 0.95 * np.tanh(np.pi / 6) < max(np.abs(slopes)) <= np.tanh(np.pi / 6)


def test_reference_strong_view_cuts_out_one_to_four_grey_rectangles():
    runs = run(strong_policy("reference", **SMALL), 300)
    cutouts = [transforms[-1] for transforms in runs]
    assert {type(t) for t in cutouts} == {CutoutTransform} and {t.fill for t in cutouts} == {125}
    assert {len(t.rectangles) for t in cutouts} == {1, 2, 3, 4}
    share = strong_policy("reference")[-1].ratio
    assert share == (0, 0.2)


@every_policy
def test_no_view_is_mirrored_when_flip_is_off(name, variant):
    def flips(flip):
        runs = run(build_policy(name, variant, flip=flip, **SMALL), 60)
        return sum(len(kinds(transforms, FlipTransform)) for transforms in runs)

    assert flips(False) == 0
    assert 10 < flips(True) < 50


@every_policy
def test_scale_knobs_reach_the_jitter(name, variant):
    knobs = dict(short_edge=128, max_size=192, scale_range=(0.8, 1.2))
    jitter = build_policy(name, variant, **knobs)[0]
    assert (jitter.base, jitter.max_size, jitter.scale_range) == (128, 192, (0.8, 1.2))


@pytest.mark.parametrize("variant", VARIANTS)
def test_max_angle_bounds_rotation_and_shear(variant):
    runs = run(build_policy("strong", variant, max_angle=15.0, **SMALL))
    affine = [t for r in runs for t in r.transforms if isinstance(t, AffineTransform)]
    slopes = np.array([t.matrix[0, 1] / t.matrix[0, 0] for t in affine])
    limit = np.tan(np.deg2rad(15))
    assert 0.8 * limit < np.abs(slopes).max() <= limit + 1e-9


@pytest.mark.parametrize("name", ["labeled", "strong"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_channel_order_reaches_the_colour_jitter(name, variant):
    transforms = run(build_policy(name, variant, image_format="RGB", **SMALL))
    used = [t for r in transforms for t in r.transforms if hasattr(t, "image_format")]
    assert used and {t.image_format for t in used} == {"RGB"}


@pytest.mark.parametrize(
    "arguments, choices",
    [
        (("medium", "paper"), "labeled, strong, weak"),
        (("", "paper"), "labeled, strong, weak"),
        (("strong", "released"), "paper, reference"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(arguments, choices):
    with pytest.raises(ValueError, match=choices):
        build_policy(*arguments)


@pytest.mark.parametrize("policy", [weak_policy, labeled_policy, strong_policy])
def test_each_column_refuses_an_unknown_variant(policy):
    with pytest.raises(ValueError, match="paper, reference"):
        policy("released")
