"""Eq. 7-9: jitter a box, let the teacher refine the copies, measure their spread."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from by_hand import CODE, K, moved
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from steps import NAN, detections

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import BoxJitter, SoftFastRCNNOutputLayers, SoftTeacherROIHeads
from soft_teacher.modeling.box_jitter import box_variance, jitter_boxes
from soft_teacher.modeling.families.base import Encoded
from soft_teacher.modeling.families.rcnn.teacher_pass import RCNNTeacherPass

BOX = [20.0, 10.0, 60.0, 90.0]  # 40 wide, 80 high
SIDES = np.array([40, 80, 40, 80])
BOXES = [BOX, [5.0, 5.0, 8.0, 7.0], [0.0, 0.0, 30.0, 30.0]]
FLAT = [10.0, 10.0, 10.0, 50.0]  # no width
POINT = [10.0, 10.0, 10.0, 10.0]

both_distributions = pytest.mark.parametrize("distribution", ["uniform", "normal"])
both_normalizers = pytest.mark.parametrize("normalizer", ["candidate", "refined"])


def jitter(boxes, num=10, scale=0.06, distribution="uniform", seed=0):
    return jitter_boxes(
        torch.as_tensor(boxes).reshape(-1, 4),
        num=num,
        scale=scale,
        distribution=distribution,
        generator=torch.Generator().manual_seed(seed),
    )


def offsets(*boxes, **settings):
    """(boxes, 20000, 4) of many copies, float64."""
    copies = jitter(np.float32(boxes), num=20000, **settings).double().numpy()
    return copies - np.array(boxes)[:, None]


# --- Eq. 7: jitter


@both_distributions
@pytest.mark.parametrize("boxes", [[], [BOX], BOXES], ids=len)
def test_num_float32_copies_of_every_box(boxes, distribution):
    boxes = torch.tensor(boxes, dtype=torch.float16)
    copies = jitter(boxes, num=7, distribution=distribution)
    assert copies.shape == (len(boxes), 7, 4) and copies.dtype == torch.float32


@pytest.mark.parametrize("scale", [0.06, 0.25])
def test_uniform_offsets_fill_plus_minus_scale_of_the_width_and_of_the_height(scale):
    relative = offsets(BOX, scale=scale)[0] / SIDES
    assert np.abs(relative).max() <= scale * (1 + 1e-5)
    np.testing.assert_allclose(relative.max(axis=0), scale, rtol=0.01)
    np.testing.assert_allclose(relative.min(axis=0), -scale, rtol=0.01)
    # a uniform distribution on [-s, s] has mean 0, standard deviation s / sqrt(3)
    np.testing.assert_allclose(relative.mean(axis=0), 0, atol=0.02 * scale)
    np.testing.assert_allclose(relative.std(axis=0), scale / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize("scale", [0.06, 0.25])
def test_normal_offsets_have_the_scale_as_standard_deviation(scale):
    relative = offsets(BOX, scale=scale, distribution="normal")[0] / SIDES
    np.testing.assert_allclose(relative.mean(axis=0), 0, atol=0.03 * scale)
    np.testing.assert_allclose(relative.std(axis=0), scale, rtol=0.03)
    # 68.3 % within one standard deviation, and some beyond three
    np.testing.assert_allclose((np.abs(relative) < scale).mean(axis=0), 0.683, atol=0.015)
    assert np.abs(relative).max() > 3 * scale


@both_distributions
def test_the_four_coordinates_move_independently(distribution):
    """Those of another box, too."""
    found = np.concatenate(offsets(BOX, BOX, distribution=distribution), axis=1)
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(8), atol=0.03)


def test_uniform_offsets_along_a_side_without_extent_are_zero():
    flat, point = jitter([FLAT, POINT], num=50)
    assert (flat[:, 0::2] == 10).all() and (flat[:, 1::2] != torch.tensor([10, 50])).any()
    assert (point == 10).all()


def test_normal_offsets_take_a_side_below_one_pixel_for_one_pixel():
    small = [10.0, 10.0, 10.5, 10.0]
    found = offsets(small, distribution="normal")[0]
    np.testing.assert_allclose(found.std(axis=0), 0.06, rtol=0.03)


@both_distributions
@pytest.mark.parametrize("num", [2, 3, 10])
def test_the_seed_alone_decides_the_offsets_whatever_boxes_follow(distribution, num):
    boxes, how = BOXES * 5, dict(distribution=distribution, num=num)
    torch.manual_seed(1)
    every = jitter(boxes, seed=5, **how)
    torch.manual_seed(2)
    for n in range(len(boxes) + 1):
        assert torch.equal(jitter(boxes[:n], seed=5, **how), every[:n])
    assert not torch.equal(jitter(boxes, seed=6, **how), every)


# --- Eq. 8, 9: variance

# refined boxes, candidate, variance by hand under "candidate" and "refined".
# Two values a and b have the unbiased standard deviation |a - b| / sqrt(2).
ROOT = np.sqrt(2)
VARIANCES = {
    "all refined alike": ([BOX] * 4, BOX, 0, 0),
    # Eq. 9: every coordinate over 0.5 (40 + 80); mean refined box [21, 10, 60, 92] is 39 x 82
    "two copies": (
        [[20, 10, 60, 90], [22, 10, 60, 94]],
        BOX,
        (2 + 4) / ROOT / 60 / 4,
        (2 / 39 + 4 / 82) / ROOT / 4,
    ),
    "the candidate's sides count, not the refined": (
        [[0, 0, 10, 10], [0, 0, 10, 12]],
        [0, 0, 100, 300],
        2 / ROOT / 200 / 4,
        2 / ROOT / 11 / 4,
    ),
    # 1, 2, 3, 4 has the unbiased variance 5 / 3
    "four copies": (
        [[x, 0, 50, 20] for x in (1, 2, 3, 4)],
        [0, 0, 50, 20],
        np.sqrt(5 / 3) / 35 / 4,
        np.sqrt(5 / 3) / 47.5 / 4,
    ),
    # a side of the mean refined box counts 1 pixel at least
    "refined to less than a pixel": (
        [[5, 5, 5.25, 5.25], [5, 5, 5.75, 5.25]],
        [4, 4, 6, 6],
        0.5 / ROOT / 2 / 4,
        0.5 / ROOT / 1 / 4,
    ),
    "a candidate without width": (
        [[10, 10, 10, 50], [10, 10, 12, 50]],
        FLAT,
        2 / ROOT / 20 / 4,
        2 / ROOT / 1 / 4,
    ),
    # the mean refined box [9, 9, 10.5, 10] is 1.5 x 1
    "a candidate without extent": (
        [[9, 9, 10, 10], [9, 9, 11, 10]],
        POINT,
        np.inf,
        1 / ROOT / 1.5 / 4,
    ),
    "a candidate without extent, refined alike": ([POINT, POINT], POINT, np.inf, 0),
}


@both_normalizers
def test_no_candidates_have_no_variances_and_raise_no_warning(normalizer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = box_variance(torch.zeros(0, 10, 4), torch.zeros(0, 4), normalizer)
    assert found.shape == (0,)


@both_normalizers
@pytest.mark.parametrize("name", VARIANCES)
def test_variance_by_hand(name, normalizer):
    refined, candidate, of_candidate, of_refined = VARIANCES[name]
    expected = of_candidate if normalizer == "candidate" else of_refined
    result = box_variance(torch.tensor([refined]).float(), torch.tensor([candidate]), normalizer)
    assert result.tolist() == pytest.approx([expected], rel=1e-5)


def reference_variance(refined, candidates, normalizer):
    refined, candidates = np.asarray(refined, np.float64), np.asarray(candidates, np.float64)
    result = []
    for copies, (x0, y0, x1, y1) in zip(refined, candidates):
        if normalizer == "candidate":
            sides = [0.5 * ((y1 - y0) + (x1 - x0))] * 4
        else:
            m = copies.mean(axis=0)
            sides = [max(m[2] - m[0], 1), max(m[3] - m[1], 1)] * 2
        deviation = [
            np.sqrt(((copies[:, k] - copies[:, k].mean()) ** 2).sum() / (len(copies) - 1))
            for k in range(4)
        ]
        result.append(sum(d / s for d, s in zip(deviation, sides)) / 4)
    return np.array(result)


@both_normalizers
@pytest.mark.parametrize("n, num", [(1, 2), (5, 10), (40, 3)])
def test_variance_of_many_boxes_in_float64(n, num, normalizer):
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(0, 900, (n, 2)), rng.uniform(2, 400, (n, 2))
    candidates = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    refined = (candidates[:, None] + rng.normal(0, 5, (n, num, 4))).astype(np.float32)
    result = box_variance(torch.from_numpy(refined), torch.from_numpy(candidates), normalizer)
    expected = reference_variance(refined, candidates, normalizer)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


# --- the three together, in a pass of a teacher whose heads predict known box deltas


class KnownHeads:
    """Heads that detect given candidates and predict a class's own deltas for every box."""

    mask_on = learns_masks = False

    def __init__(self, deltas, dtype=torch.float32):
        """deltas: (K, 4), of each class."""
        transform = Box2BoxTransform(weights=CODE.tolist())
        self.box_predictor = SoftFastRCNNOutputLayers(
            ShapeSpec(channels=1), box2box_transform=transform, num_classes=K
        )
        self.deltas = torch.tensor(deltas, dtype=dtype)
        self.calls = []

    def __call__(self, images, features, proposals, targets):
        return self.detected, {}

    def predict(self, features, boxes):
        self.calls.append((features, [b.tensor.clone() for b in boxes]))
        n = sum(map(len, boxes))
        return torch.zeros(n, K + 1), self.deltas.flatten().repeat(n, 1)

    refine = SoftTeacherROIHeads.refine


BY_CLASS = np.array([[1.0, 0, 0, 0], [0, -2.0, 1.5, 0], [0.5, 0.5, -2.5, 3.0]])


def candidates(boxes, classes):
    return detections(boxes, classes, [0.9] * len(boxes), size=(100, 100))


def measured(heads, detected, seeds, **settings):
    """The variances of all that the heads are to detect, per image."""
    heads.detected = detected
    teacher = SimpleNamespace(proposal_generator=lambda *args: (None, {}), roi_heads=heads)
    seen = RCNNTeacherPass(teacher, Encoded(None, "features"), jitter=BoxJitter(**settings))
    return seen.variances([torch.arange(len(d)) for d in detected], seeds)


IMAGES = {
    "one image without candidates": [([], [])],
    "images without candidates": [([], []), ([], [])],
    "one candidate": [([BOX], [1])],
    "one image without, one with": [([], []), (BOXES, [0, 1, 2])],
    "the same candidate as two classes": [([BOX, BOX], [0, 2])],
    "two images": [(BOXES, [2, 2, 0]), ([BOX], [1])],
}


@both_normalizers
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_candidates_are_jittered_refined_as_their_own_class_and_measured(images, clip, normalizer):
    """In one pass of the box head over the jittered boxes of the batch."""
    seeds = list(range(11, 11 + len(images)))
    heads = KnownHeads(BY_CLASS)
    detected = [candidates(*i) for i in images]
    found = measured(heads, detected, seeds, num=10, normalizer=normalizer, clip=clip)

    ((features, asked),) = heads.calls
    assert features == "features" and len(found) == len(asked) == len(images)
    for variances, refined, (boxes, classes), seed in zip(found, asked, images, seeds):
        copies = jitter(np.float32(boxes), seed=seed)
        assert torch.equal(refined, copies.reshape(-1, 4))
        assert variances.shape == (len(boxes),) and variances.dtype == torch.float32
        refined = [moved(b, BY_CLASS[c]) for b, c in zip(copies, classes)]
        if clip:
            refined = [r.clip(0, 100) for r in refined]
        expected = reference_variance(refined, boxes, normalizer)
        np.testing.assert_allclose(variances, expected, rtol=1e-4)
    assert [d.pred_boxes.tensor.tolist() for d in detected] == [boxes for boxes, _ in images]


def test_a_teacher_that_refines_nothing_shows_the_spread_of_the_jitter():
    square = [0.0, 0.0, 50.0, 50.0]
    heads = KnownHeads(np.zeros((K, 4)))
    (variance,) = measured(heads, [candidates([square], [0])], [0], num=20000)
    assert variance.item() == pytest.approx(0.06 / np.sqrt(3), rel=0.01)


def test_the_variance_of_an_image_depends_on_its_own_seed_alone():
    heads = KnownHeads(BY_CLASS)
    image, other = candidates(BOXES, [0, 1, 2]), candidates([BOX], [1])
    (alone,) = measured(heads, [image], [4])
    _, second = measured(heads, [other, image], [9, 4])
    assert torch.equal(alone, second)
    (reseeded,) = measured(heads, [image], [5])
    assert not torch.equal(alone, reseeded)


def test_half_precision_predictions_are_measured_in_float32():
    image = candidates(BOXES, [0, 0, 0])
    (exact,) = measured(KnownHeads(BY_CLASS), [image], [0])
    (half,) = measured(KnownHeads(BY_CLASS, torch.bfloat16), [image], [0])
    assert half.dtype == torch.float32 and torch.equal(half, exact)


# --- configuration

# key: parameter, another value, values that are refused
SETTINGS = {
    "NUM": ("num", 3, [1, 0, -3]),
    "SCALE": ("scale", 0.1, [0.0, -0.06, NAN]),
    "DISTRIBUTION": ("distribution", "normal", ["", "Uniform", "gaussian"]),
    "NORMALIZER": ("normalizer", "refined", ["", "mean"]),
    "CLIP_REFINED": ("clip", True, []),
}


def test_the_paper_is_the_default(tiny_cfg):
    paper = dict(num=10, scale=0.06, distribution="uniform", normalizer="candidate", clip=False)
    assert vars(BoxJitter()) == vars(BoxJitter(tiny_cfg)) == paper


@pytest.mark.parametrize("key", SETTINGS)
def test_every_config_key_is_read_and_checked(tiny_cfg, key):
    name, value, refused = SETTINGS[key]
    tiny_cfg.SOFT_TEACHER.JITTER[key] = value
    assert getattr(BoxJitter(tiny_cfg), name) == value
    for bad in refused:
        tiny_cfg.SOFT_TEACHER.JITTER[key] = bad
        with pytest.raises(ConfigError) as error, YAML_WORDS.spoken():
            BoxJitter(tiny_cfg)
        said = str(error.value)
        assert said.startswith(f"SOFT_TEACHER.JITTER.{key} must ") and "\n" not in said


def test_no_config_key_is_forgotten_here(tiny_cfg):
    of_the_labeler = {"ENABLED", "SCORE_THRESH", "VARIANCE_THRESH", "STABLE_SHARE"}
    assert set(tiny_cfg.SOFT_TEACHER.JITTER) == {*of_the_labeler, *SETTINGS}
