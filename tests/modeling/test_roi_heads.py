"""Losses of unlabeled images in the ROI heads (Eq. 3-6 and 10) against loops in float64."""

import itertools

import numpy as np
import pytest
import torch
from by_hand import (
    BG,
    RELIABILITY,
    K,
    classification_loss,
    cross_entropy,
    iou,
    regression_loss,
    samples_of,
    student_deltas,
    student_scores,
    teacher_background,
)
from detectron2.modeling import build_backbone, build_roi_heads
from scenes import (
    ELSEWHERE,
    EVERYTHING,
    HALF_A,
    NEAR_A,
    NEAR_B,
    NO_BOXES,
    SCENES,
    A,
    B,
    every_scene,
    g_cls_of,
    g_reg_of,
    over,
    proposals_of,
)
from steps import boxes_of

from soft_teacher.modeling import PseudoLabels, SoftTeacherROIHeads


@pytest.fixture
def build_heads(tiny_cfg):
    def build_heads(samples=EVERYTHING, **settings):
        cfg = tiny_cfg.clone()
        cfg.MODEL.ROI_HEADS.NAME = "SoftTeacherROIHeads"
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = samples
        for key, value in settings.items():
            cfg.SOFT_TEACHER[key] = value
        torch.manual_seed(0)
        return build_roi_heads(cfg, build_backbone(cfg).output_shape()).train()

    return build_heads


class Recorder:
    """In place of the student's box head and of the teacher; records the boxes of their passes."""

    def __init__(self, heads, teacher=teacher_background):
        self.student_boxes, self.teacher_boxes = [], []
        self._heads, self._teacher = heads, teacher
        heads.predict = self.predict

    def predict(self, features, boxes):
        self.student_boxes.append([b.tensor.clone() for b in boxes])
        rows = torch.cat([b.tensor for b in boxes])
        self.scores = torch.tensor(student_scores(rows)).float().requires_grad_()
        self.deltas = torch.tensor(student_deltas(rows)).float().requires_grad_()
        return self.scores, self.deltas

    def score_with_teacher(self, boxes):
        self.teacher_boxes.append([b.tensor.clone() for b in boxes])
        return [torch.tensor(self._teacher(b.tensor)).float() for b in boxes]

    def losses(self, scene, ignored=()):
        """(losses, mean reliability) of unlabeled images."""
        ignored = [boxes_of(boxes) for boxes in ignored]
        pseudo = PseudoLabels(g_cls_of(scene), g_reg_of(scene), ignored=ignored)
        proposals = proposals_of(scene)
        return self._heads.pseudo_losses("features", proposals, pseudo, self.score_with_teacher)

    def stock_losses(self, scene, pseudo):
        """Detectron2's losses of samples matched to pseudo boxes."""
        samples = self._heads.label_and_sample_proposals(proposals_of(scene), pseudo)
        predictions = self.predict("features", [s.proposal_boxes for s in samples])
        return self._heads.box_predictor.losses(predictions, samples)


INDICATORS = [*RELIABILITY, "none"]
every_average = pytest.mark.parametrize("average", ["image", "gpu"])


@every_scene
@pytest.mark.parametrize(
    "indicator, formula, average",
    list(itertools.product(INDICATORS, ["paper", "reference"], ["image", "gpu"])),
)
def test_classification_loss_of_equations_4_to_6(build_heads, scene, indicator, formula, average):
    heads = build_heads(INDICATOR=indicator, CLS_FORMULA=formula, AVERAGE=average)
    recorder = Recorder(heads)
    losses, mean = recorder.losses(scene)
    images = [samples_of(boxes, *g_cls) for boxes, g_cls, _ in scene]
    expected = over(average, images, lambda s: classification_loss(s, indicator, formula))
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)
    if indicator == "none":
        assert mean is None
    else:
        background = [s for image in images for s in image if s[1] == BG]
        r = [RELIABILITY[indicator](s[0], s[3], teacher_background) for s in background]
        assert mean.shape == () and not mean.requires_grad
        assert mean.item() == pytest.approx(np.mean(r) if r else 0.0, rel=1e-5)


@every_scene
@every_average
@pytest.mark.parametrize("normalizer", ["foreground", "samples"])
def test_regression_loss_of_equation_10(build_heads, storage, scene, normalizer, average):
    heads = build_heads(REG_NORMALIZER=normalizer, AVERAGE=average)
    losses, _ = Recorder(heads).losses(scene)
    images = [samples_of(boxes, *g_reg) for boxes, _, g_reg in scene]
    expected = over(average, images, lambda s: regression_loss(s, normalizer))
    assert losses["loss_box_reg"].item() == pytest.approx(expected, rel=1e-5)
    foregrounds = np.mean([sum(s[1] != BG for s in image) for image in images])
    assert storage.latest()["num_reg_samples"][0] == pytest.approx(foregrounds)


@every_scene
@pytest.mark.parametrize("formula", ["paper", "reference"])
def test_without_any_reliability_the_background_term_is_zero(build_heads, scene, formula):
    heads = build_heads(CLS_FORMULA=formula)
    losses, _ = Recorder(heads, lambda boxes: np.zeros(len(boxes))).losses(scene)
    images = [samples_of(boxes, *g_cls) for boxes, g_cls, _ in scene]
    fg = [[cross_entropy(box, c) for box, c, _, _ in image if c != BG] for image in images]
    expected = np.mean([np.mean(f) if f else 0.0 for f in fg])
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)


@every_scene
@every_average
def test_one_image_without_weights_has_the_stock_classification_loss(build_heads, scene, average):
    recorder = Recorder(build_heads(INDICATOR="none", AVERAGE=average))
    losses, _ = recorder.losses(scene[:1])
    stock = recorder.stock_losses(scene[:1], g_cls_of(scene[:1]))
    assert losses["loss_cls"].item() == pytest.approx(stock["loss_cls"].item(), rel=1e-6)


@every_scene
def test_the_released_regression_loss_is_the_stock_one_on_g_reg(build_heads, scene):
    recorder = Recorder(build_heads(REG_NORMALIZER="samples", AVERAGE="gpu"))
    losses, _ = recorder.losses(scene)
    stock = recorder.stock_losses(scene, g_reg_of(scene))
    assert losses["loss_box_reg"].item() == pytest.approx(stock["loss_box_reg"].item(), rel=1e-6)


# --- boxes that are neither objects nor background

# Per image of "three images".
IGNORED = {
    "nothing in any": [[], [], []],
    "a background": [[], [ELSEWHERE[0]], []],
    "near two backgrounds": [[[30, 50, 60, 60], HALF_A], [], []],
    "a little of a background": [[[30, 50, 60, 55]], [], []],
    "a foreground, and a box without samples": [[NEAR_A, B], [B], [A]],
    "all": [[A, HALF_A, *ELSEWHERE], ELSEWHERE[:2], [B, NEAR_B]],
}


def left_out(sample, ignored):
    """Whether it is a background that would be a foreground of an ignored box."""
    overlaps = [iou(sample[0], box) for box in ignored]
    return sample[1] == BG and max(overlaps, default=0) >= 0.5


# Those in which no background overlaps an ignored box by a half.
HARMLESS = ["nothing in any", "a little of a background", "a foreground, and a box without samples"]


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("indicator", ["bg_teacher", "none"])
@every_average
def test_backgrounds_on_ignored_boxes_weigh_nothing_and_all_else_what_it_did(
    build_heads, indicator, average, name
):
    scene, ignored = SCENES["three images"], IGNORED[name]
    images = [samples_of(boxes, *g_cls) for boxes, g_cls, _ in scene]
    left = [[left_out(s, boxes) for s in image] for image, boxes in zip(images, ignored)]

    def lost(samples):
        """What the samples that are left out have in the loss of an image, or of the GPU."""
        r = [1.0 if indicator == "none" else teacher_background(s[0]) for s, _ in samples]
        counts = [1.0 if indicator == "none" else s[1] == BG for s, _ in samples]
        entropies = [cross_entropy(s[0], s[1]) * gone for s, gone in samples]
        weights = np.multiply(r, counts)
        return weights @ entropies / max(weights.sum(), 1e-9)

    def losses(ignored):
        torch.manual_seed(0)
        return Recorder(build_heads(INDICATOR=indicator, AVERAGE=average)).losses(scene, ignored)

    (plain, mean), (found, same_mean) = losses(()), losses(ignored)
    less = over(average, [list(zip(*x)) for x in zip(images, left)], lost)
    assert found["loss_cls"].item() == pytest.approx(plain["loss_cls"].item() - less, rel=1e-5)
    assert torch.equal(found["loss_cls"], plain["loss_cls"]) == (name in HARMLESS)
    assert torch.equal(found["loss_box_reg"], plain["loss_box_reg"])
    assert mean is same_mean is None or torch.equal(mean, same_mean)


def test_what_is_ignored_gets_no_gradient(build_heads):
    scene = SCENES["one proposal, no pseudo boxes"]
    for ignored, zero in (([[]], False), ([[A]], True), ([[HALF_A]], False)):
        recorder = Recorder(build_heads())
        losses, _ = recorder.losses(scene, ignored)
        losses["loss_cls"].backward()
        assert (recorder.scores.grad == 0).all() == zero


def test_an_overlap_of_exactly_the_matcher_s_threshold_is_that_of_a_foreground(build_heads):
    scene = [([A], NO_BOXES, NO_BOXES)]
    for box, weight in (([10, 10, 25, 40], 0), ([10, 10, 24, 40], 1)):
        losses, _ = Recorder(build_heads()).losses(scene, [[box]])
        assert losses["loss_cls"].item() == pytest.approx(weight * cross_entropy(A, BG), rel=1e-5)


# --- passes of the box heads


def as_set(boxes):
    return sorted(map(tuple, np.asarray(boxes).reshape(-1, 4).tolist()))


@pytest.mark.parametrize("indicator", INDICATORS)
@every_scene
def test_the_student_scores_its_samples_in_one_pass_the_teacher_those_of_g_cls_if_needed(
    build_heads, scene, indicator
):
    """And both losses reach the predictions even where they are zero."""
    recorder = Recorder(build_heads(INDICATOR=indicator))
    losses, _ = recorder.losses(scene)

    s_cls = [[s[0] for s in samples_of(boxes, *g)] for boxes, g, _ in scene]
    s_reg = [[s[0] for s in samples_of(boxes, *g) if s[1] != BG] for boxes, _, g in scene]
    (asked,) = recorder.student_boxes
    assert [as_set(a) for a in asked] == [as_set(c + r) for c, r in zip(s_cls, s_reg)]
    if indicator in ("bg_teacher", "pred_diff"):
        (asked,) = recorder.teacher_boxes
        assert [as_set(a) for a in asked] == [as_set(c) for c in s_cls]
    else:
        assert not recorder.teacher_boxes

    losses["loss_cls"].backward()
    assert recorder.scores.grad.isfinite().all()
    losses["loss_box_reg"].backward()
    assert recorder.deltas.grad.isfinite().all()


def test_s_cls_has_the_configured_number_of_samples_and_s_reg_is_sampled_separately(build_heads):
    heads = build_heads(samples=16)
    recorder = Recorder(heads)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 24, (100, 2))], axis=1).tolist()
    torch.manual_seed(0)
    scene = [(boxes, ([A], [0]), ([B] * 40, [2] * 40))]
    recorder.losses(scene)

    ((asked,),) = recorder.student_boxes
    ((s_cls,),) = recorder.teacher_boxes
    assert len(s_cls) == 16
    # at most a quarter of the samples are foregrounds, here the copies of the one box of G_reg
    assert len(asked) == 16 + 4
    assert as_set(asked)[-4:] == as_set([B] * 4)
    _, sizes = heads.foregrounds.sample(proposals_of(scene), g_reg_of(scene))
    assert sizes == [16]


@pytest.mark.parametrize("indicator", INDICATORS)
def test_r_is_a_constant_of_the_loss(build_heads, indicator):
    """The gradient of a logit is the row's coefficient times (softmax - one-hot)."""
    ((boxes, g_cls, _),) = scene = SCENES["both, different"]
    recorder = Recorder(build_heads(INDICATOR=indicator))
    losses, _ = recorder.losses(scene)
    losses["loss_cls"].backward()

    samples = samples_of(boxes, *g_cls)
    fg = [s for s in samples if s[1] != BG]
    bg = [s for s in samples if s[1] == BG]
    if indicator == "none":
        weights = {tuple(s[0]): 1 / len(samples) for s in samples}
    else:
        r = [RELIABILITY[indicator](s[0], s[3], teacher_background) for s in bg]
        weights = {tuple(s[0]): 1 / len(fg) for s in fg}
        weights.update({tuple(s[0]): rj / sum(r) for s, rj in zip(bg, r)})
    classes = {tuple(s[0]): s[1] for s in samples}

    ((rows,),) = recorder.student_boxes
    for box, gradient in list(zip(rows.tolist(), recorder.scores.grad))[: len(samples)]:
        scores = np.exp(student_scores(box))
        expected = scores / scores.sum() - np.eye(K + 1)[classes[tuple(box)]]
        np.testing.assert_allclose(gradient, weights[tuple(box)] * expected, rtol=1e-4, atol=1e-7)
    assert (recorder.scores.grad[len(samples) :] == 0).all()


def test_the_paper_is_the_default(build_heads):
    heads = build_heads()
    assert isinstance(heads, SoftTeacherROIHeads)
    assert (heads.indicator, heads.cls_formula) == ("bg_teacher", "paper")
    assert (heads.reg_normalizer, heads.average) == ("foreground", "image")
