"""What the policies sample, against Table 2 and against the released code, number by number.

Every value is read off the transforms that ``build_policy`` ends in, so that a wrong number in a
policy fails here, whichever class holds it.
"""

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from chance import assert_share, assert_uniform
from detectron2.data import transforms as T

from soft_teacher.data.augmentation import photometric as P
from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)

SAMPLES = 2400
IMAGE = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype=np.uint8)
# Small views make many samples fast; they leave every number of the table but the sizes alone.
SMALL = dict(short_edge=30, max_size=60, scale_range=(0.9, 1.1))
every_policy = pytest.mark.parametrize(
    "name, variant", [(name, variant) for name in NAMES for variant in VARIANTS]
)
TAKEN = (FlipTransform, AffineTransform, CutoutTransform, P.PhotometricTransform)


@lru_cache(maxsize=None)
def sampled(name, variant):
    """The transforms of each sample; an operation that does not act is a NoOpTransform."""
    np.random.seed(20)
    policy = T.AugmentationList(build_policy(name, variant, **SMALL))
    return [policy(T.AugInput(IMAGE)).transforms for _ in range(SAMPLES)]


def flat(name, variant, kind):
    return [t for transforms in sampled(name, variant) for t in transforms if type(t) is kind]


def assert_signs(values):
    assert_share(np.sum(np.asarray(values) > 0), 0.5, len(values))


def factor_ratio(factor):
    """The ratio r of Table 2 behind an enhancement factor."""
    return (factor - 0.1) / 1.8


def slopes(affine):
    """Of a shear along x and then along y."""
    return np.array([(t.matrix[0, 1], t.matrix[1, 0]) for t in affine]).T


def angles(affine):
    return np.degrees([np.arctan2(t.matrix[1, 0], t.matrix[0, 0]) for t in affine])


def shifts(affine):
    """Of a translation, as shares of width and height."""
    return np.array([t.matrix[:, 2] / (t.w, t.h) for t in affine]).T


# --- paper ------------------------------------------------------------------------------------

FLIP = [(FlipTransform, 0.5)]
COLOUR = [
    (P.SolarizeTransform, 0.25),
    (P.BrightnessTransform, 0.25),
    (P.ContrastTransform, 0.25),
    (P.SharpnessTransform, 0.25),
]
GEOMETRY = [(AffineTransform, 0.3)] * 3
CUTOUT = [(CutoutTransform, 1.0)]
# After the resize: what is at each place of a sample, and how often it acts.
PAPER = {
    "weak": FLIP,
    "labeled": FLIP + COLOUR + CUTOUT,
    "strong": FLIP + COLOUR + GEOMETRY + CUTOUT,
}
TRANSLATE, ROTATE, SHEAR = 6, 7, 8


def place(number, name="strong"):
    """What acted at one place of the paper's samples."""
    found = (transforms[number] for transforms in sampled(name, "paper"))
    return [t for t in found if not isinstance(t, T.NoOpTransform)]


@pytest.mark.parametrize("name", NAMES)
def test_paper_operations_act_as_often_as_table_2_says_each_for_itself(name):
    samples = sampled(name, "paper")
    assert {len(transforms) for transforms in samples} == {1 + len(PAPER[name])}
    for number, (kind, chance) in enumerate(PAPER[name], start=1):
        acting = place(number, name)
        assert {type(t) for t in acting} == {kind}
        assert_share(len(acting), chance, SAMPLES)
    nothing = sum(all(not isinstance(t, TAKEN[:1] + TAKEN[3:]) for t in d) for d in samples)
    colours = sum(kind in dict(COLOUR) for kind, _ in PAPER[name])
    assert_share(nothing, 0.5 * 0.75**colours, SAMPLES)


@pytest.mark.parametrize("name", ["labeled", "strong"])
def test_paper_colour_ratios_fill_0_to_1(name):
    solarized = flat(name, "paper", P.SolarizeTransform)
    # A threshold is a whole grey level, floor(256 r).
    assert_uniform([(t.threshold + 0.5) / 256 for t in solarized], 0, 1)
    for kind in (P.BrightnessTransform, P.ContrastTransform, P.SharpnessTransform):
        assert_uniform([factor_ratio(t.factor) for t in flat(name, "paper", kind)], 0, 1)


def test_paper_translation_is_up_to_a_tenth_of_each_side_either_way():
    for along in shifts(place(TRANSLATE)):
        assert_uniform(along, -0.1, 0.1)
        assert_signs(along)


def test_paper_rotation_is_up_to_30_degrees_either_way():
    turned = angles(place(ROTATE))
    assert_uniform(turned, -30, 30)
    assert_signs(turned)


def test_paper_shear_is_up_to_30_degrees_either_way_on_both_axes():
    for along in np.degrees(np.arctan(slopes(place(SHEAR)))):
        assert_uniform(along, -30, 30)
        assert_signs(along)


# --- released code ----------------------------------------------------------------------------

TENTHS = [r / 10 for r in range(1, 10)]
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


def colours_and_geometries():
    """Of each strong sample of the released code, in whichever order they came."""
    for transforms in sampled("strong", "reference"):
        assert len(transforms) == 5
        yield sorted(transforms[2:4], key=lambda t: isinstance(t, AffineTransform))


def geometries():
    kinds = {"x": [], "y": [], "rotate": [], "shear": []}
    for _, transform in colours_and_geometries():
        linear, down = transform.matrix[:, :2], transform.matrix[1, 2]
        if np.array_equal(linear, np.eye(2)):
            kinds["x" if down == 0 else "y"].append(transform)
        else:
            turned = np.allclose(linear @ linear.T, np.eye(2))
            kinds["rotate" if turned else "shear"].append(transform)
    return kinds


def test_reference_takes_one_of_nine_colours():
    labeled = [transforms[2] for transforms in sampled("labeled", "reference")]
    strong = [colour for colour, _ in colours_and_geometries()]
    for colours in (labeled, strong):
        counts = Counter(map(type, colours))
        assert set(counts) == NINE_COLOURS
        for count in counts.values():
            assert_share(count, 1 / 9, SAMPLES)


@pytest.mark.parametrize("name", ["labeled", "strong"])
@pytest.mark.parametrize(
    "kind",
    [P.BrightnessTransform, P.ContrastTransform, P.SharpnessTransform, P.SaturationTransform],
)
def test_reference_factors_belong_to_the_nine_tenths(name, kind):
    levels = [round(factor_ratio(t.factor), 9) for t in flat(name, "reference", kind)]
    assert sorted(set(levels)) == TENTHS
    for level in TENTHS:
        assert_share(levels.count(level), 1 / 9, len(levels))


@pytest.mark.parametrize("name", ["labeled", "strong"])
def test_reference_solarizes_and_posterizes_at_the_nine_tenths(name):
    thresholds = [t.threshold for t in flat(name, "reference", P.SolarizeTransform)]
    assert set(thresholds) == {int(256 * r) for r in TENTHS}
    for threshold in set(thresholds):
        assert_share(thresholds.count(threshold), 1 / 9, len(thresholds))
    bits = [t.bits for t in flat(name, "reference", P.PosterizeTransform)]
    for number, chance in {4: 2 / 9, 3: 2 / 9, 2: 3 / 9, 1: 2 / 9}.items():
        assert_share(bits.count(number), chance, len(bits))


def test_reference_takes_exactly_one_of_four_geometries_in_either_order_with_the_colour():
    for transforms in geometries().values():
        assert_share(len(transforms), 0.25, SAMPLES)
        assert {t.fill for t in transforms} == {125}
    samples = sampled("strong", "reference")
    assert_share(sum(isinstance(t[2], AffineTransform) for t in samples), 0.5, SAMPLES)


def test_reference_geometries_are_signed_and_shear_by_tanh():
    found = geometries()
    right, none = shifts(found["x"])
    assert_uniform(right, -0.1, 0.1)
    assert not none.any()
    none, down = shifts(found["y"])
    assert_uniform(down, -0.1, 0.1)
    assert not none.any()
    assert_uniform(angles(found["rotate"]), -30, 30)
    for along in np.degrees(np.arctanh(slopes(found["shear"]))):
        assert_uniform(along, -30, 30)
        assert_signs(along)


def test_reference_labels_and_weak_views_are_neither_moved_nor_cut():
    for name, length in (("weak", 2), ("labeled", 3)):
        samples = sampled(name, "reference")
        assert {len(transforms) for transforms in samples} == {length}
        taken = {type(t) for transforms in samples for t in transforms}
        assert not taken & {AffineTransform, CutoutTransform}


# --- both -------------------------------------------------------------------------------------


@every_policy
def test_half_of_the_views_are_mirrored(name, variant):
    assert_share(len(flat(name, variant, FlipTransform)), 0.5, SAMPLES)


@pytest.mark.parametrize(
    "name, variant, most, low, high",
    [
        ("labeled", "paper", 5, 0.05, 0.2),
        ("strong", "paper", 5, 0.05, 0.2),
        ("strong", "reference", 4, 0.0, 0.2),
    ],
)
def test_cutout_number_and_ratio(name, variant, most, low, high):
    last = [transforms[-1] for transforms in sampled(name, variant)]
    counts = Counter(len(t.rectangles) for t in last)
    assert set(counts) == set(range(1, most + 1)) and {t.fill for t in last} == {125}
    for count in counts.values():
        assert_share(count, 1 / most, SAMPLES)
    # Sides are whole pixels, cut off: on a large view that hardly shows.
    large = np.broadcast_to(np.uint8(0), (100_000, 200_000, 3))
    cutout = build_policy(name, variant)[-1]
    boxes = np.vstack([cutout.get_transform(large).rectangles for _ in range(1000)])
    for side in ((boxes[:, 2] - boxes[:, 0]) / 200_000, (boxes[:, 3] - boxes[:, 1]) / 100_000):
        assert_uniform(side, low - 1e-5, high)


@every_policy
def test_scale_jitter_reaches_both_edges_and_stops_at_the_long_one(name, variant):
    def sizes(height, width):
        image = np.broadcast_to(np.uint8(0), (height, width, 3))
        found = [jitter.get_transform(image) for _ in range(1500)]
        assert {type(t) for t in found} == {ResizeTransform}
        return np.array([(t.new_h, t.new_w) for t in found])

    np.random.seed(21)
    jitter = build_policy(name, variant)[0]
    square = sizes(500, 500)
    assert_uniform(square[:, 0], 400, 1200)
    np.testing.assert_array_equal(square[:, 0], square[:, 1])
    high, wide = sizes(640, 480).T
    assert high.max() == 1333
    # The short edge would be more than 1333 * 480 / 640 = 999.75 in a quarter of the samples.
    assert_share(np.sum(high == 1333), (1200 - 999.75) / 800, 1500)
    # The released code samples a whole short edge, the paper any; the long edge tells them apart.
    free = high < 1333
    whole = (wide[free] * 640 / 480 + 0.5).astype(int) == high[free]
    assert whole.all() if variant == "reference" else 0.2 < whole.mean() < 0.9
