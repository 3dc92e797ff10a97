import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import OmegaConf

from soft_teacher import ConfigError
from soft_teacher.data.augmentation import color as C
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import AffineTransform, FlipTransform
from soft_teacher.geometry import transform_matrix

IMAGE = np.random.RandomState(0).randint(0, 256, (30, 40, 3), dtype=np.uint8)
SMALL = dict(short_edge=32, max_size=60)
every_variant = pytest.mark.parametrize("variant", VARIANTS)
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
    """Transform lists of ``count`` samples."""
    np.random.seed(seed)
    return [T.AugmentationList(policy)(T.AugInput(IMAGE)) for _ in range(count)]


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
        assert image.dtype == np.uint8 and image.shape[2] == 3 and max(image.shape[:2]) <= 60
        transform_matrix(transforms)


@every_policy
def test_scale_and_flip_are_as_set(name, variant):
    def flips(flip):
        runs = run(build_policy(name, variant, flip=flip, **SMALL), 60)
        return sum(isinstance(t, FlipTransform) for found in runs for t in found.transforms)

    assert flips(False) == 0 and 10 < flips(True) < 50
    settings = dict(short_edge=128, max_size=192, scale_range=(0.8, 1.2))
    jitter = build_policy(name, variant, **settings)[0]
    assert (jitter.base, jitter.max_size, jitter.scale_range) == (128, 192, (0.8, 1.2))


@every_variant
def test_max_angle_bounds_rotation_and_shear(variant):
    runs = run(build_policy("strong", variant, max_angle=15.0, **SMALL))
    affine = [t for r in runs for t in r.transforms if isinstance(t, AffineTransform)]
    slopes = np.array([t.matrix[0, 1] / t.matrix[0, 0] for t in affine])
    limit = np.tan(np.deg2rad(15))
    assert 0.8 * limit < np.abs(slopes).max() <= limit + 1e-9
    assert build_policy("strong", variant, max_angle=0.0)


@pytest.mark.parametrize("name", ["labeled", "strong"])
@every_variant
def test_channel_order_reaches_the_colour_jitter(name, variant):
    transforms = run(build_policy(name, variant, image_format="RGB", **SMALL))
    used = [t for r in transforms for t in r.transforms if hasattr(t, "image_format")]
    assert used and {t.image_format for t in used} == {"RGB"}


NO_ANGLE = "build_policy.max_angle must be at least 0 and below 90"


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(name="medium"), "labeled, strong, weak"),
        (dict(variant="released"), "build_policy.variant must be one of paper, reference"),
        (dict(short_edge=0), "build_policy.short_edge must be at least 1 pixel, got 0"),
        (dict(max_size=-1), "build_policy.max_size must be at least 1 pixel, got -1"),
        (dict(scale_range=(1.5, 0.5)), "scale_range must be two scales .*, got .1.5, 0.5."),
        (dict(scale_range=(0.0, 0.5)), "scale_range must be two scales above 0"),
        (dict(scale_range=(1.0,)), "scale_range must be two scales"),
        *((dict(name="strong", max_angle=a), NO_ANGLE) for a in (-1.0, 90.0, float("nan"))),
    ],
)
@every_policy
def test_impossible_settings_are_refused_naming_the_key(name, variant, settings, message):
    with pytest.raises(ConfigError, match=message):
        build_policy(**{"name": name, "variant": variant, **settings})


# --- in a LazyConfig ------------------------------------------------------------------------------


def lazily(node):
    return instantiate(OmegaConf.create({"policy": node}, flags={"allow_objects": True}).policy)


@every_policy
def test_a_policy_named_in_a_lazy_config_samples_the_same(name, variant):
    settings = dict(variant=variant, short_edge=32, max_size=60, scale_range=(0.8, 1.2))
    lazy = lazily(L(build_policy)(name=name, **settings))
    assert str(run(lazy, 30)) == str(run(build_policy(name, **settings), 30))


def test_a_list_of_single_augmentations_in_a_lazy_config_samples_the_same():
    """One of every kind of argument: numbers, ranges, colours, other augmentations."""
    lazy = [
        L(A.ShortEdgeScaleJitter)(base=32, max_size=60, scale_range=(0.9, 1.1)),
        L(C.RandomContrast)(prob=1.0, image_format="BGR"),
        L(A.RandomRotate)(prob=1.0, angle=(5.0, 15.0), fill=(1, 2, 3)),
        L(A.OneOf)(augs=[L(A.RandomTranslation)(prob=1.0), L(A.RandomShear)(prob=1.0)]),
        L(A.RandomCutout)(num=(2, 3), ratio=(0.1, 0.2), fill=(4, 5, 6)),
    ]
    plain = [
        A.ShortEdgeScaleJitter(32, 60, (0.9, 1.1)),
        C.RandomContrast(1.0),
        A.RandomRotate(1.0, (5.0, 15.0), (1, 2, 3)),
        A.OneOf([A.RandomTranslation(1.0), A.RandomShear(1.0)]),
        A.RandomCutout((2, 3), (0.1, 0.2), (4, 5, 6)),
    ]
    for lazy, expected in zip(run(lazily(lazy), 30), run(plain, 30), strict=True):
        assert [type(t) for t in lazy.transforms] == [type(t) for t in expected.transforms]
        np.testing.assert_array_equal(lazy.apply_image(IMAGE), expected.apply_image(IMAGE))
