"""Options and edges of single augmentations; test_policy_draws.py has the numbers of Table 2."""

import numpy as np
import pytest
from chance import assert_share, assert_uniform
from detectron2.data import transforms as T

from soft_teacher import ConfigError
from soft_teacher.data.augmentation import color as C
from soft_teacher.data.augmentation import photometric as P
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.transforms import CutoutTransform, FlipTransform

H, W = 100, 200
IMAGE = np.zeros((H, W, 3), dtype=np.uint8)
COUNT = 2000


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(7)


def sampled(augmentation, count=COUNT, image=IMAGE):
    """The transforms that act, of ``count`` samples."""
    transforms = [augmentation.get_transform(image) for _ in range(count)]
    return [t for t in transforms if not isinstance(t, T.NoOpTransform)]


RANDOM_OPS = [
    *(A.RandomHorizontalFlip, A.RandomTranslation, A.RandomRotate, A.RandomShear),
    *(C.RandomSolarize, C.RandomBrightness, C.RandomContrast, C.RandomSharpness),
    *(C.RandomSaturation, C.RandomPosterize),
]


@pytest.mark.parametrize("augmentation", RANDOM_OPS)
def test_the_chance_may_be_none_or_certainty(augmentation):
    assert sampled(augmentation(prob=0.0), 100) == []
    assert len(sampled(augmentation(prob=1.0), 100)) == 100


@pytest.mark.parametrize("augmentation", [*RANDOM_OPS, A.ShortEdgeScaleJitter, A.RandomCutout])
def test_the_global_numpy_seed_decides(augmentation):
    def sample(seed):
        np.random.seed(seed)
        return [repr(augmentation().get_transform(IMAGE)) for _ in range(30)]

    assert sample(3) == sample(3) != sample(4)
    assert augmentation.__name__ in repr(augmentation())


# --- scale -------------------------------------------------------------------------------------


def resized(augmentation, size, count=COUNT):
    transforms = sampled(augmentation, count, np.zeros((*size, 3), dtype=np.uint8))
    assert all((t.h, t.w) == size for t in transforms)
    return np.array([(t.new_h, t.new_w) for t in transforms])


def test_short_edge_is_800_times_a_half_to_one_and_a_half():
    sizes = resized(A.ShortEdgeScaleJitter(max_size=10_000), (480, 640))
    assert_uniform(sizes[:, 0], 400, 1200)
    np.testing.assert_allclose(sizes[:, 1], sizes[:, 0] * 640 / 480, atol=1.2)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (100, 1000)])
def test_long_edge_is_at_most_1333_and_keeps_the_aspect(size):
    sizes = resized(A.ShortEdgeScaleJitter(), size)
    assert sizes.max() == 1333
    np.testing.assert_allclose(sizes[:, 0] * size[1] / size[0], sizes[:, 1], atol=6)


def test_reference_short_edge_is_an_integer_and_both_ends_occur():
    edges = resized(A.ShortEdgeScaleJitter(20, 1333, integer=True), (50, 60))[:, 0]
    assert set(edges) == set(range(10, 31))
    for edge in (10, 20, 30):
        assert_share((edges == edge).sum(), 1 / 21, COUNT)


def test_an_extremely_long_image_keeps_a_pixel_of_height():
    assert resized(A.ShortEdgeScaleJitter(), (1, 4000), 20).min() == 1


# --- colour ------------------------------------------------------------------------------------

ENHANCEMENTS = (C.RandomBrightness, C.RandomContrast, C.RandomSharpness, C.RandomSaturation)


@pytest.mark.parametrize(
    "augmentation, ratio, field, value",
    [
        *((op, 0.5, "factor", 1.0) for op in ENHANCEMENTS),
        (C.RandomSolarize, 0.0, "threshold", 0),
        (C.RandomSolarize, 0.5, "threshold", 128),
        (C.RandomSolarize, 1.0, "threshold", 256),
        (C.RandomPosterize, 0.0, "bits", 4),
        (C.RandomPosterize, 0.5, "bits", 2),
        (C.RandomPosterize, 1.0, "bits", 1),
    ],
)
def test_colours_by_their_ratio(augmentation, ratio, field, value):
    found = sampled(augmentation(1.0, (ratio, ratio)), 3)
    assert {getattr(t, field) for t in found} == {value}


# --- geometry ----------------------------------------------------------------------------------


def matrices(augmentation):
    transforms = sampled(augmentation)
    assert all((t.h, t.w, t.fill) == (H, W, 125) for t in transforms)
    return np.array([t.matrix for t in transforms])


def test_translations_along_the_axes_are_independent_and_keep_to_their_range():
    moved = matrices(A.RandomTranslation(prob=1.0, ratio=(0.05, 0.1)))
    np.testing.assert_array_equal(moved[:, :, :2], np.broadcast_to(np.eye(2), (COUNT, 2, 2)))
    for axis, side in ((0, W), (1, H)):
        assert_uniform(np.abs(moved[:, axis, 2]) / side, 0.05, 0.1)
    assert abs(np.corrcoef(moved[:, 0, 2], moved[:, 1, 2])[0, 1]) < 0.1


@pytest.mark.parametrize("axes, moving", [("x", [True, False]), ("y", [False, True])])
def test_translation_along_one_axis(axes, moving):
    moved = matrices(A.RandomTranslation(prob=1.0, axes=axes))[:, :, 2] != 0
    assert moved.all(axis=0).tolist() == moved.any(axis=0).tolist() == moving


def test_rotation_is_about_the_centre_and_by_the_given_angle():
    turned = matrices(A.RandomRotate(prob=1.0, angle=(0.0, 15.0)))
    linear = turned[:, :, :2]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), [np.eye(2)] * COUNT, atol=1e-12)
    assert_uniform(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), -15, 15)
    np.testing.assert_allclose(turned @ [W / 2, H / 2, 1], [[W / 2, H / 2]] * COUNT, atol=1e-9)


@pytest.mark.parametrize("slope, back", [("tan", np.arctan), ("tanh", np.arctanh)])
def test_shear_is_along_x_and_then_along_y_and_keeps_areas_and_the_top_left_corner(slope, back):
    sheared = matrices(A.RandomShear(prob=1.0, angle=(0.0, 15.0), slope=slope))
    assert_uniform(np.degrees(back(sheared[:, 0, 1])), -15, 15)
    assert_uniform(np.degrees(back(sheared[:, 1, 0])), -15, 15)
    np.testing.assert_array_equal(sheared[:, 0, 0], 1)
    np.testing.assert_allclose(np.linalg.det(sheared[:, :, :2]), 1)
    np.testing.assert_array_equal(sheared[:, :, 2], 0)


def test_fill_reaches_the_transform():
    for augmentation in (A.RandomTranslation, A.RandomRotate, A.RandomShear):
        assert augmentation(prob=1.0, fill=(1, 2, 3)).get_transform(IMAGE).fill == (1, 2, 3)
    assert A.RandomCutout(fill=7).get_transform(IMAGE).fill == 7


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: A.RandomTranslation(axes="z"), "RandomTranslation.axes must be one of x, y, xy"),
        (lambda: A.RandomShear(slope="sin"), "RandomShear.slope must be one of tan, tanh"),
    ],
)
def test_unknown_options_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# --- cutout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num, size, most", [((0, 0), 100, 0), ((1, 5), 1, 1)])
def test_cutout_of_nothing_and_of_a_tiny_image(num, size, most):
    found = A.RandomCutout(num=num).get_transform(np.zeros((size, size, 3), np.uint8))
    assert type(found) is CutoutTransform and found.rectangles.max(initial=0) <= most


def test_cutout_rectangles_are_a_share_of_both_sides_anywhere_inside():
    image = np.zeros((1000, 2000, 3), dtype=np.uint8)
    x0, y0, x1, y1 = np.vstack([t.rectangles for t in sampled(A.RandomCutout(), image=image)]).T
    np.testing.assert_allclose((x1 - x0) / 2000, (y1 - y0) / 1000, atol=1.1e-3)
    assert_uniform(x0 / (2000 - (x1 - x0)), 0, 1)
    assert_uniform(y0 / (1000 - (y1 - y0)), 0, 1)


# --- combinations ------------------------------------------------------------------------------

MARKS = [T.NoOpTransform(), P.SolarizeTransform(1), P.SolarizeTransform(2)]


@pytest.mark.parametrize("combination, orders", [(A.OneOf, 3), (A.RandomOrder, 6)])
def test_combinations_apply_one_or_all_each_way_equally_often(combination, orders):
    runs = [combination(MARKS)(T.AugInput(IMAGE)).transforms for _ in range(COUNT)]
    seen = [tuple(getattr(t, "threshold", 0) for t in found) for found in runs]
    assert len(set(seen)) == orders
    assert {len(set(order)) for order in seen} == {1 if combination is A.OneOf else 3}
    for order in set(seen):
        assert_share(seen.count(order), 1 / orders, COUNT)


@pytest.mark.parametrize("combination", [A.OneOf, A.RandomOrder])
def test_combinations_transform_image_and_boxes_and_report_it(combination):
    image = np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)
    inputs = T.AugInput(image, boxes=np.array([[10.0, 20, 50, 60]]))
    transforms = combination([FlipTransform(W)])(inputs)
    np.testing.assert_array_equal(inputs.image, image[:, ::-1])
    np.testing.assert_array_equal(inputs.boxes, [[150, 20, 190, 60]])
    np.testing.assert_array_equal(transforms.apply_image(image), inputs.image)
