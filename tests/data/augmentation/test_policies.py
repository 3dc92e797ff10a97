import numpy as np
import pytest
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import transforms as T
from omegaconf import OmegaConf

from soft_teacher import ConfigError
from soft_teacher.data.augmentation import color as C
from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.policies import (
    NAMES,
    VARIANTS,
    build_policy,
    labeled_policy,
    strong_policy,
    weak_policy,
)
from soft_teacher.data.augmentation.transforms import AffineTransform, FlipTransform
from soft_teacher.data.streams.loader import build_two_stream_train_loader
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


@pytest.mark.parametrize(
    "knobs, message",
    [
        (dict(short_edge=0), "build_policy.short_edge must be at least 1 pixel, got 0"),
        (dict(max_size=-1), "build_policy.max_size must be at least 1 pixel, got -1"),
        (dict(scale_range=(1.5, 0.5)), "scale_range must be two scales .*, got .1.5, 0.5."),
        (dict(scale_range=(0.0, 0.5)), "scale_range must be two scales above 0"),
        (dict(scale_range=(1.0,)), "scale_range must be two scales"),
    ],
)
@every_policy
def test_impossible_sizes_are_refused_naming_the_key(name, variant, knobs, message):
    with pytest.raises(ConfigError, match=message):
        build_policy(name, variant, **knobs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("angle", [-1.0, 90.0, float("nan")])
def test_impossible_angles_are_refused_naming_the_key(variant, angle):
    with pytest.raises(ConfigError, match="build_policy.max_angle must be at least 0 and below 90"):
        build_policy("strong", variant, max_angle=angle)
    assert build_policy("strong", variant, max_angle=0.0)


@pytest.mark.parametrize("policy", [weak_policy, labeled_policy, strong_policy])
def test_each_column_refuses_an_unknown_variant(policy):
    with pytest.raises(ValueError, match="paper, reference"):
        policy("released")


# --- in a LazyConfig ------------------------------------------------------------------------------

# One augmentation of every kind of argument: numbers, ranges, colours, other augmentations.
OWN_LIST = [
    L(A.ShortEdgeScaleJitter)(base=32, max_size=60, scale_range=(0.9, 1.1)),
    L(C.RandomContrast)(prob=1.0, image_format="BGR"),
    L(A.RandomRotate)(prob=1.0, angle=(5.0, 15.0), fill=(1, 2, 3)),
    L(A.OneOf)(augs=[L(A.RandomTranslation)(prob=1.0), L(A.RandomShear)(prob=1.0)]),
    L(A.RandomCutout)(num=(2, 3), ratio=(0.1, 0.2), fill=(4, 5, 6)),
]


def lazily(node):
    return instantiate(OmegaConf.create({"policy": node}, flags={"allow_objects": True}).policy)


@every_policy
def test_a_policy_named_in_a_lazy_config_draws_the_same(name, variant):
    knobs = dict(variant=variant, short_edge=32, max_size=60, scale_range=(0.8, 1.2))
    lazy = lazily(L(build_policy)(name=name, **knobs))
    assert str(run(lazy, 30)) == str(run(build_policy(name, **knobs), 30))


def test_a_list_of_single_augmentations_in_a_lazy_config_draws_the_same():
    plain = [
        A.ShortEdgeScaleJitter(32, 60, (0.9, 1.1)),
        C.RandomContrast(1.0),
        A.RandomRotate(1.0, (5.0, 15.0), (1, 2, 3)),
        A.OneOf([A.RandomTranslation(1.0), A.RandomShear(1.0)]),
        A.RandomCutout((2, 3), (0.1, 0.2), (4, 5, 6)),
    ]
    for lazy, expected in zip(run(lazily(OWN_LIST), 30), run(plain, 30), strict=True):
        assert [type(t) for t in lazy.transforms] == [type(t) for t in expected.transforms]
        np.testing.assert_array_equal(lazy.apply_image(IMAGE), expected.apply_image(IMAGE))


@pytest.mark.usefixtures("tiny_digits")
def test_the_training_loader_takes_such_a_list():
    node = L(build_two_stream_train_loader)(
        labeled_names=["digits_fold1_labeled"],
        unlabeled_names=["digits_unlabeled"],
        **{f"{view}_augmentations": OWN_LIST for view in NAMES},
        image_format="BGR",
        batch_size=4,
        labeled_share=0.5,
        decay_steps=0,
        max_iter=2,
        num_workers=0,
        seed=0,
    )
    labeled, *_, unlabeled = next(iter(lazily(node)))
    views = (labeled["image"], unlabeled["image"], unlabeled["weak_image"])
    assert {view.shape[0] for view in views} == {3}
    assert all(29 <= min(view.shape[1:]) <= 35 for view in views)
