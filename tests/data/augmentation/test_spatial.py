import numpy as np
import pytest
from detectron2.data import transforms as T

from soft_teacher import ConfigError
from soft_teacher.data.augmentation import color as C
from soft_teacher.data.augmentation import photometric as P
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)

H, W = 100, 200
IMAGE = np.zeros((H, W, 3), dtype=np.uint8)
DRAWS = 3000


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(7)


def draws(augmentation, count=DRAWS):
    """Transforms that acted, out of ``count`` draws."""
    transforms = [augmentation.get_transform(IMAGE) for _ in range(count)]
    return [t for t in transforms if not isinstance(t, T.NoOpTransform)]


def assert_chance(hits, chance, count=DRAWS):
    assert abs(hits - chance * count) <= 4 * np.sqrt(count * chance * (1 - chance))


def assert_uniform(values, low, high):
    """Inside [low, high], close to both ends, and with the quarters equally full."""
    values = np.asarray(values)
    margin = 0.01 * (high - low)
    assert low <= values.min() < low + margin
    assert high - margin < values.max() <= high
    for count in np.histogram(values, bins=4, range=(low, high))[0]:
        assert_chance(count, 0.25, len(values))


RANDOM_OPS = [
    (A.RandomHorizontalFlip, 0.5, FlipTransform),
    (C.RandomSolarize, 0.25, P.SolarizeTransform),
    (C.RandomBrightness, 0.25, P.BrightnessTransform),
    (C.RandomContrast, 0.25, P.ContrastTransform),
    (C.RandomSharpness, 0.25, P.SharpnessTransform),
    (C.RandomSaturation, 0.25, P.SaturationTransform),
    (C.RandomPosterize, 0.25, P.PosterizeTransform),
    (A.RandomTranslation, 0.3, AffineTransform),
    (A.RandomRotate, 0.3, AffineTransform),
    (A.RandomShear, 0.3, AffineTransform),
]


@pytest.mark.parametrize("augmentation, chance, transform", RANDOM_OPS)
def test_chances_of_table_2(augmentation, chance, transform):
    hits = draws(augmentation())
    assert_chance(len(hits), chance)
    assert {type(t) for t in hits} == {transform}
    assert draws(augmentation(prob=0.0), 100) == []
    assert len(draws(augmentation(prob=1.0), 100)) == 100


EVERY_AUGMENTATION = [op for op, _, _ in RANDOM_OPS] + [A.ShortEdgeScaleJitter, A.RandomCutout]


@pytest.mark.parametrize("augmentation", EVERY_AUGMENTATION)
def test_the_global_numpy_seed_decides(augmentation):
    def sample(seed):
        np.random.seed(seed)
        return [repr(augmentation().get_transform(IMAGE)) for _ in range(30)]

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)
    assert augmentation.__name__ in repr(augmentation())


# --- scale -------------------------------------------------------------------------------------


def resized(augmentation, size, count=DRAWS):
    image = np.zeros((*size, 3), dtype=np.uint8)
    transforms = [augmentation.get_transform(image) for _ in range(count)]
    assert all(type(t) is ResizeTransform and (t.h, t.w) == size for t in transforms)
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


def test_small_datasets_set_their_own_edge():
    sizes = resized(A.ShortEdgeScaleJitter(128, 192, (0.8, 1.2)), (128, 128))
    assert_uniform(sizes[:, 0], 102, 154)
    assert resized(A.ShortEdgeScaleJitter(128, 192), (128, 200)).max() == 192


def test_reference_short_edge_is_an_integer_and_both_ends_occur():
    jitter = A.ShortEdgeScaleJitter(20, 1333, integer=True)
    edges = resized(jitter, (50, 60))[:, 0]
    assert set(edges) == set(range(10, 31))
    for edge in (10, 20, 30):
        assert_chance((edges == edge).sum(), 1 / 21)
    assert all(isinstance(jitter._short_edge(), int) for _ in range(5))


def test_an_extremely_long_image_keeps_a_pixel_of_height():
    assert resized(A.ShortEdgeScaleJitter(), (1, 4000), 20).min() == 1


# --- colour ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentation", [C.RandomBrightness, C.RandomContrast, C.RandomSharpness, C.RandomSaturation]
)
def test_enhancement_factor_is_a_tenth_plus_1_8_r(augmentation):
    factors = [t.factor for t in draws(augmentation(prob=1.0))]
    assert_uniform(factors, 0.1, 1.9)
    half = [t.factor for t in draws(augmentation(prob=1.0, ratio=(0.5, 0.5)), 5)]
    assert half == [1.0] * 5


def test_solarize_threshold_is_256_r():
    assert_uniform([t.threshold for t in draws(C.RandomSolarize(prob=1.0))], 0, 256)
    assert {t.threshold for t in draws(C.RandomSolarize(1.0, (0.5, 0.5)), 5)} == {128}


LEVEL = dict(prob=1.0, ratio=(0.1, 0.9), step=0.1)


def test_reference_ratios_are_the_nine_tenths():
    factors = [t.factor for t in draws(C.RandomBrightness(**LEVEL))]
    levels, counts = np.unique(np.round((np.array(factors) - 0.1) / 0.18, 6), return_counts=True)
    np.testing.assert_array_equal(levels, range(1, 10))
    for count in counts:
        assert_chance(count, 1 / 9)


def test_reference_solarize_and_posterize_cut_to_integers_as_released():
    thresholds = {t.threshold for t in draws(C.RandomSolarize(**LEVEL))}
    assert thresholds == {25, 51, 76, 102, 128, 153, 179, 204, 230}
    bits, counts = np.unique(
        [t.bits for t in draws(C.RandomPosterize(**LEVEL))], return_counts=True
    )
    # Levels 1-2, 3-4, 5-7 and 8-9 keep 4, 3, 2 and 1 bits.
    for count, chance in zip(counts, (2 / 9, 3 / 9, 2 / 9, 2 / 9), strict=True):
        assert_chance(count, chance)
    np.testing.assert_array_equal(bits, [1, 2, 3, 4])


def test_posterize_keeps_a_bit_at_the_end_of_the_range():
    assert {t.bits for t in draws(C.RandomPosterize(1.0, (1.0, 1.0)), 3)} == {1}


@pytest.mark.parametrize("augmentation", [C.RandomContrast, C.RandomSaturation])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_channel_order_reaches_the_transform(augmentation, image_format):
    transform = augmentation(1.0, image_format=image_format).get_transform(IMAGE)
    assert transform.image_format == image_format


# --- geometry ----------------------------------------------------------------------------------


def matrices(augmentation):
    transforms = draws(augmentation)
    assert all((t.h, t.w, t.fill) == (H, W, 125) for t in transforms)
    return np.array([t.matrix for t in transforms])


def test_translation_is_a_signed_tenth_of_each_side():
    moved = matrices(A.RandomTranslation(prob=1.0))
    np.testing.assert_array_equal(moved[:, :, :2], np.broadcast_to(np.eye(2), (DRAWS, 2, 2)))
    assert_uniform(moved[:, 0, 2] / W, -0.1, 0.1)
    assert_uniform(moved[:, 1, 2] / H, -0.1, 0.1)
    assert abs(np.corrcoef(moved[:, 0, 2], moved[:, 1, 2])[0, 1]) < 0.08


def test_translation_keeps_off_a_minimum():
    moved = matrices(A.RandomTranslation(prob=1.0, ratio=(0.05, 0.1)))
    assert_uniform(np.abs(moved[:, 0, 2]) / W, 0.05, 0.1)


@pytest.mark.parametrize("axes, moving", [("x", [True, False]), ("y", [False, True])])
def test_translation_along_one_axis(axes, moving):
    moved = matrices(A.RandomTranslation(prob=1.0, axes=axes))
    np.testing.assert_array_equal((moved[:, :, 2] != 0).all(axis=0), moving)
    np.testing.assert_array_equal((moved[:, :, 2] != 0).any(axis=0), moving)


def test_rotation_is_up_to_30_degrees_either_way_about_the_centre():
    turned = matrices(A.RandomRotate(prob=1.0))
    linear = turned[:, :, :2]
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), [np.eye(2)] * DRAWS, atol=1e-12)
    assert_uniform(np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0])), -30, 30)
    np.testing.assert_allclose(turned @ [W / 2, H / 2, 1], [[W / 2, H / 2]] * DRAWS, atol=1e-9)


@pytest.mark.parametrize("slope, back", [("tan", np.arctan), ("tanh", np.arctanh)])
def test_shear_is_up_to_30_degrees_either_way_on_each_axis(slope, back):
    sheared = matrices(A.RandomShear(prob=1.0, slope=slope))
    assert_uniform(np.degrees(back(sheared[:, 0, 1])), -30, 30)
    assert_uniform(np.degrees(back(sheared[:, 1, 0])), -30, 30)
    # First along x, then along y; areas and the top left corner stay.
    np.testing.assert_array_equal(sheared[:, 0, 0], 1)
    np.testing.assert_allclose(np.linalg.det(sheared[:, :, :2]), 1)
    np.testing.assert_array_equal(sheared[:, :, 2], 0)


@pytest.mark.parametrize("augmentation", [A.RandomRotate, A.RandomShear])
def test_angles_can_be_narrowed(augmentation):
    turned = matrices(augmentation(prob=1.0, angle=(0.0, 15.0)))
    assert_uniform(np.degrees(np.arctan2(-turned[:, 0, 1], turned[:, 0, 0])), -15, 15)


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


def rectangles(augmentation, image=IMAGE):
    transforms = [augmentation.get_transform(image) for _ in range(DRAWS)]
    assert {type(t) for t in transforms} == {CutoutTransform}
    return [t.rectangles for t in transforms]


def test_no_rectangle_where_none_is_asked_for():
    assert rectangles(A.RandomCutout(num=(0, 0)))[0].shape == (0, 4)


def test_cutout_paints_one_to_five_rectangles():
    counts = np.array([len(r) for r in rectangles(A.RandomCutout())])
    for number in range(1, 6):
        assert_chance((counts == number).sum(), 1 / 5)
    assert counts.min() == 1 and counts.max() == 5


def test_cutout_rectangles_have_a_share_of_both_sides_and_lie_inside():
    image = np.zeros((1000, 2000, 3), dtype=np.uint8)
    x0, y0, x1, y1 = np.vstack(rectangles(A.RandomCutout(), image)).T
    assert_uniform((x1 - x0) / 2000, 0.05 - 5e-4, 0.2)
    np.testing.assert_allclose((x1 - x0) / 2000, (y1 - y0) / 1000, atol=1.1e-3)
    assert x0.min() >= 0 and y0.min() >= 0
    assert x1.max() <= 2000 and y1.max() <= 1000
    # Wherever it fits: the room left over is used evenly.
    assert_uniform(x0 / (2000 - (x1 - x0)), 0, 1)
    assert_uniform(y0 / (1000 - (y1 - y0)), 0, 1)


def test_cutout_of_a_tiny_image():
    assert A.RandomCutout().get_transform(np.zeros((1, 1, 3), np.uint8)).rectangles.max() <= 1


# --- combinations ------------------------------------------------------------------------------

MARKS = [T.NoOpTransform(), P.SolarizeTransform(1), P.SolarizeTransform(2)]


def names(transform_list):
    return tuple(getattr(t, "threshold", 0) for t in transform_list.transforms)


def test_one_of_applies_each_equally_often_and_only_one():
    seen = [names(A.OneOf(MARKS)(T.AugInput(IMAGE))) for _ in range(DRAWS)]
    assert set(seen) == {(0,), (1,), (2,)}
    for mark in set(seen):
        assert_chance(seen.count(mark), 1 / 3)


def test_random_order_applies_all_in_each_order_equally_often():
    seen = [names(A.RandomOrder(MARKS)(T.AugInput(IMAGE))) for _ in range(DRAWS)]
    assert len(set(seen)) == 6 and {len(set(order)) for order in seen} == {3}
    for order in set(seen):
        assert_chance(seen.count(order), 1 / 6)


@pytest.mark.parametrize("combination", [A.OneOf, A.RandomOrder])
def test_combinations_transform_image_and_boxes_and_report_it(combination):
    image = np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)
    inputs = T.AugInput(image, boxes=np.array([[10.0, 20, 50, 60]]))
    transforms = combination([FlipTransform(W)])(inputs)
    np.testing.assert_array_equal(inputs.image, image[:, ::-1])
    np.testing.assert_array_equal(inputs.boxes, [[150, 20, 190, 60]])
    np.testing.assert_array_equal(transforms.apply_image(image), inputs.image)
