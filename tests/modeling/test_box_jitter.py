"""Eq. 7-9: jitter a box, let the teacher refine the copies, measure their spread."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import BoxJitter, SoftFastRCNNOutputLayers
from soft_teacher.modeling.box_jitter import box_variance, jitter_boxes
from soft_teacher.modeling.families.base import Encoded
from soft_teacher.modeling.families.rcnn.teacher_pass import RCNNTeacherPass

BOX = [20.0, 10.0, 60.0, 90.0]  # 40 wide, 80 high
BOXES = [BOX, [5.0, 5.0, 8.0, 7.0], [0.0, 0.0, 30.0, 30.0]]
FLAT = [10.0, 10.0, 10.0, 50.0]  # no width
POINT = [10.0, 10.0, 10.0, 10.0]
K = 3
CODE = (10.0, 10.0, 5.0, 5.0)


def jitter(boxes, num=10, scale=0.06, distribution="uniform", seed=0):
    return jitter_boxes(
        torch.as_tensor(boxes).reshape(-1, 4),
        num=num,
        scale=scale,
        distribution=distribution,
        generator=torch.Generator().manual_seed(seed),
    )


# --- Eq. 7: jitter


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("boxes", [[], [BOX], BOXES], ids=["no box", "one box", "three boxes"])
def test_num_float32_copies_of_every_box(boxes, distribution):
    boxes = torch.tensor(boxes, dtype=torch.float16)
    copies = jitter(boxes, num=7, distribution=distribution)
    assert copies.shape == (len(boxes), 7, 4) and copies.dtype == torch.float32


@pytest.mark.parametrize("scale", [0.06, 0.25])
def test_uniform_offsets_fill_plus_minus_scale_of_the_width_and_of_the_height(scale):
    offsets = jitter([BOX], num=20000, scale=scale)[0].double().numpy() - BOX
    relative = offsets / [40, 80, 40, 80]
    assert np.abs(relative).max() <= scale * (1 + 1e-5)
    np.testing.assert_allclose(relative.max(axis=0), scale, rtol=0.01)
    np.testing.assert_allclose(relative.min(axis=0), -scale, rtol=0.01)
    # a uniform distribution on [-s, s] has mean 0, standard deviation s / sqrt(3)
    np.testing.assert_allclose(relative.mean(axis=0), 0, atol=0.02 * scale)
    np.testing.assert_allclose(relative.std(axis=0), scale / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize("scale", [0.06, 0.25])
def test_normal_offsets_have_the_scale_as_standard_deviation(scale):
    offsets = jitter([BOX], num=20000, scale=scale, distribution="normal")[0].double().numpy() - BOX
    relative = offsets / [40, 80, 40, 80]
    np.testing.assert_allclose(relative.mean(axis=0), 0, atol=0.03 * scale)
    np.testing.assert_allclose(relative.std(axis=0), scale, rtol=0.03)
    # 68.3 % within one standard deviation, and some beyond three
    np.testing.assert_allclose((np.abs(relative) < scale).mean(axis=0), 0.683, atol=0.015)
    assert np.abs(relative).max() > 3 * scale


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_the_four_coordinates_move_independently(distribution):
    offsets = jitter([BOX], num=20000, distribution=distribution)[0].double().numpy() - BOX
    np.testing.assert_allclose(np.corrcoef(offsets.T), np.eye(4), atol=0.03)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_two_boxes_do_not_share_offsets(distribution):
    first, second = jitter([BOX, BOX], num=20000, distribution=distribution).double().numpy() - BOX
    assert np.abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.03


def test_uniform_offsets_along_a_side_without_extent_are_zero():
    flat, point = jitter([FLAT, POINT], num=50)
    assert (flat[:, 0::2] == 10).all() and (flat[:, 1::2] != torch.tensor([10, 50])).any()
    assert (point == 10).all()


def test_normal_offsets_take_a_side_below_one_pixel_for_one_pixel():
    small = [10.0, 10.0, 10.5, 10.0]
    offsets = jitter([small], num=20000, distribution="normal")[0].double().numpy() - small
    np.testing.assert_allclose(offsets.std(axis=0), 0.06, rtol=0.03)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_the_seed_alone_decides_the_offsets(distribution):
    torch.manual_seed(1)
    first = jitter(BOXES, distribution=distribution, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, jitter(BOXES, distribution=distribution, seed=5))
    assert not torch.equal(first, jitter(BOXES, distribution=distribution, seed=6))


@pytest.mark.parametrize(
    "distribution, num",
    [(distribution, num) for distribution in ("uniform", "normal") for num in (2, 3, 4, 10)],
)
def test_offsets_of_a_box_do_not_depend_on_the_boxes_after_it(distribution, num):
    boxes = BOXES * 5
    every = jitter(boxes, num=num, distribution=distribution)
    for n in range(len(boxes)):
        assert torch.equal(jitter(boxes[:n], num=num, distribution=distribution), every[:n])


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


@pytest.mark.parametrize("normalizer", ["candidate", "refined"])
def test_no_candidates_have_no_variances(normalizer):
    assert box_variance(torch.zeros(0, 10, 4), torch.zeros(0, 4), normalizer).shape == (0,)


def test_no_candidates_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box_variance(torch.zeros(0, 10, 4), torch.zeros(0, 4), "candidate")


@pytest.mark.parametrize("normalizer", ["candidate", "refined"])
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


@pytest.mark.parametrize("normalizer", ["candidate", "refined"])
@pytest.mark.parametrize("n, num", [(1, 2), (5, 10), (40, 3)])
def test_variance_of_many_boxes_in_float64(n, num, normalizer):
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(0, 900, (n, 2)), rng.uniform(2, 400, (n, 2))
    candidates = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    refined = (candidates[:, None] + rng.normal(0, 5, (n, num, 4))).astype(np.float32)
    result = box_variance(torch.from_numpy(refined), torch.from_numpy(candidates), normalizer)
    expected = reference_variance(refined, candidates, normalizer)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


@pytest.mark.parametrize("normalizer", ["candidate", "refined"])
def test_variance_does_not_depend_on_the_scale_of_the_image(normalizer):
    candidates = torch.tensor(BOXES[::2])
    refined = jitter(candidates)
    once = box_variance(refined, candidates, normalizer)
    twice = box_variance(2 * refined, 2 * candidates, normalizer)
    torch.testing.assert_close(once, twice, rtol=1e-5, atol=0)


# --- the three together, in a pass of a teacher whose heads answer with known box deltas


class KnownHeads:
    """Heads that detect given candidates and answer every box with a class's own deltas."""

    def __init__(self, deltas):
        """deltas: (K, 4), of each class."""
        transform = Box2BoxTransform(weights=CODE)
        self.box_predictor = SoftFastRCNNOutputLayers(
            ShapeSpec(channels=1), box2box_transform=transform, num_classes=K
        )
        self.deltas = torch.tensor(deltas).float()
        self.asked = []

    def __call__(self, images, features, proposals, targets):
        return self.detected, {}

    def predict(self, features, boxes):
        self.asked.append((features, [b.tensor.clone() for b in boxes]))
        n = sum(map(len, boxes))
        return torch.zeros(n, K + 1), self.deltas.flatten().repeat(n, 1)


STILL = np.zeros((K, 4))
BY_CLASS = np.array([[1.0, 0, 0, 0], [0, -2.0, 1.5, 0], [0.5, 0.5, -2.5, 3.0]])


def refine_in_numpy(boxes, delta):
    boxes = np.asarray(boxes, np.float64)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x = (boxes[:, 0] + boxes[:, 2]) / 2 + delta[0] / CODE[0] * w
    y = (boxes[:, 1] + boxes[:, 3]) / 2 + delta[1] / CODE[1] * h
    w, h = w * np.exp(delta[2] / CODE[2]), h * np.exp(delta[3] / CODE[3])
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)


def measured(heads, detected, seeds, features=None, **settings):
    """The variances of all that the heads are to detect, per image."""
    heads.detected = detected
    teacher = SimpleNamespace(proposal_generator=lambda *args: (None, {}), roi_heads=heads)
    seen = RCNNTeacherPass(teacher, Encoded(None, features), jitter=BoxJitter(**settings))
    return seen.variances([torch.arange(len(d)) for d in detected], seeds)


def candidates(boxes, classes, size=(100, 100)):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    return Instances(size, pred_boxes=boxes, pred_classes=torch.tensor(classes, dtype=torch.int64))


IMAGES = {
    "one image without candidates": [([], [])],
    "images without candidates": [([], []), ([], [])],
    "one candidate": [([BOX], [1])],
    "one image without, one with": [([], []), (BOXES, [0, 1, 2])],
    "the same candidate as two classes": [([BOX, BOX], [0, 2])],
    "two images": [(BOXES, [2, 2, 0]), ([BOX], [1])],
}


@pytest.mark.parametrize("normalizer", ["candidate", "refined"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_candidates_are_jittered_refined_as_their_own_class_and_measured(images, clip, normalizer):
    seeds = list(range(11, 11 + len(images)))
    settings = dict(num=10, normalizer=normalizer, clip=clip)
    found = measured(KnownHeads(BY_CLASS), [candidates(*i) for i in images], seeds, **settings)

    assert len(found) == len(images)
    for variances, (boxes, classes), seed in zip(found, images, seeds):
        assert variances.shape == (len(boxes),) and variances.dtype == torch.float32
        copies = jitter(np.float32(boxes), seed=seed)
        refined = [refine_in_numpy(b, BY_CLASS[c]) for b, c in zip(copies, classes)]
        if clip:
            refined = [r.clip(0, 100) for r in refined]
        expected = reference_variance(refined, boxes, normalizer)
        np.testing.assert_allclose(variances, expected, rtol=1e-4)


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_the_head_is_asked_once_for_all_jittered_boxes_of_the_batch(images):
    heads = KnownHeads(STILL)
    seeds = list(range(len(images)))
    measured(heads, [candidates(*i) for i in images], seeds, "features", num=5)
    ((features, asked),) = heads.asked
    assert features == "features"
    for boxes, (candidate_boxes, _), seed in zip(asked, images, seeds):
        expected = jitter(np.float32(candidate_boxes), num=5, seed=seed)
        assert torch.equal(boxes, expected.reshape(-1, 4))


def test_a_teacher_that_refines_every_copy_to_one_box_is_perfectly_reliable():
    class Converged(KnownHeads):
        def predict(self, features, boxes):
            scores, deltas = super().predict(features, boxes)
            transform = self.box_predictor.box2box_transform
            goal = torch.tensor([BOX]).expand(len(boxes[0]), 4)
            return scores, transform.get_deltas(boxes[0].tensor, goal).repeat(1, K)

    (variance,) = measured(Converged(STILL), [candidates([BOX], [1])], [0])
    assert variance.item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_that_refines_nothing_shows_the_spread_of_the_jitter():
    square = [0.0, 0.0, 50.0, 50.0]
    (variance,) = measured(KnownHeads(STILL), [candidates([square], [0])], [0], num=20000)
    assert variance.item() == pytest.approx(0.06 / np.sqrt(3), rel=0.01)


def test_the_variance_of_an_image_depends_on_its_own_seed_alone():
    heads = KnownHeads(BY_CLASS)
    image, other = candidates(BOXES, [0, 1, 2]), candidates([BOX], [1])
    (alone,) = measured(heads, [image], [4])
    _, second = measured(heads, [other, image], [9, 4])
    assert torch.equal(alone, second)
    (reseeded,) = measured(heads, [image], [5])
    assert not torch.equal(alone, reseeded)


def test_measuring_leaves_the_candidates_alone():
    image = candidates(BOXES, [0, 1, 2])
    BoxJitter(clip=True).variances(lambda boxes, classes: [b.tensor for b in boxes], [image], [0])
    assert image.pred_boxes.tensor.tolist() == BOXES
    assert image.pred_classes.tolist() == [0, 1, 2]
    assert set(image.get_fields()) == {"pred_boxes", "pred_classes"}


def test_half_precision_predictions_are_measured_in_float32():
    class Half(KnownHeads):
        def predict(self, features, boxes):
            return [x.to(torch.bfloat16) for x in super().predict(features, boxes)]

    image = candidates(BOXES, [0, 0, 0])
    (exact,) = measured(KnownHeads(BY_CLASS), [image], [0])
    (half,) = measured(Half(BY_CLASS), [image], [0])
    assert half.dtype == torch.float32 and torch.equal(half, exact)


# --- configuration

SETTINGS = {
    "NUM": ("num", 3),
    "SCALE": ("scale", 0.1),
    "DISTRIBUTION": ("distribution", "normal"),
    "NORMALIZER": ("normalizer", "refined"),
    "CLIP_REFINED": ("clip", True),
}


def test_the_paper_is_the_default(tiny_cfg):
    for measure in (BoxJitter(), BoxJitter(tiny_cfg)):
        assert (measure.num, measure.scale, measure.distribution) == (10, 0.06, "uniform")
        assert (measure.normalizer, measure.clip) == ("candidate", False)


@pytest.mark.parametrize("key", SETTINGS)
def test_every_config_key_is_read(tiny_cfg, key):
    name, value = SETTINGS[key]
    tiny_cfg.SOFT_TEACHER.JITTER[key] = value
    assert getattr(BoxJitter(tiny_cfg), name) == value


def test_no_config_key_is_forgotten_here(tiny_cfg):
    of_the_labeler = {"ENABLED", "SCORE_THRESH", "VARIANCE_THRESH"}
    assert set(tiny_cfg.SOFT_TEACHER.JITTER) == {*of_the_labeler, *SETTINGS}


NAN = float("nan")
BAD = {
    "NUM": [1, 0, -3],
    "SCALE": [0.0, -0.06, NAN],
    "DISTRIBUTION": ["", "Uniform", "gaussian"],
    "NORMALIZER": ["", "mean"],
}


@pytest.mark.parametrize(
    "key, value",
    [
        pytest.param(key, *getattr(v, "values", (v,)), marks=getattr(v, "marks", ()))
        for key, values in BAD.items()
        for v in values
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(tiny_cfg, key, value):
    tiny_cfg.SOFT_TEACHER.JITTER[key] = value
    with pytest.raises(
        ConfigError, match=rf"^SOFT_TEACHER\.JITTER\.{key} .*\Z"
    ), YAML_WORDS.spoken():
        BoxJitter(tiny_cfg)
