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
    regression_loss,
    samples_of,
    student_deltas,
    student_scores,
    teacher_background,
)
from detectron2.modeling import StandardROIHeads, build_backbone, build_roi_heads
from detectron2.structures import Boxes, Instances

from soft_teacher import ConfigError
from soft_teacher.experiment.words import YAML_WORDS
from soft_teacher.modeling import PseudoLabels, SoftTeacherROIHeads

SIZE = (64, 96)
EVERYTHING = 256  # samples per image: more than any scene here has

A, B, C = [10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60]
NEAR_A, NEAR_B = [12, 10, 40, 42], [50, 22, 86, 60]
HALF_A = [10, 10, 22, 40]  # IoU 0.4 with A
ELSEWHERE = [[60, 0, 80, 10], [0, 0, 8, 8], [30, 50, 60, 64]]

# per image: proposals, (boxes, classes) of G_cls, (boxes, classes) of G_reg
NO_BOXES = ([], [])
SCENES = {
    "no proposals, no pseudo boxes": [([], NO_BOXES, NO_BOXES)],
    "one proposal, no pseudo boxes": [([A], NO_BOXES, NO_BOXES)],
    "no pseudo boxes": [(ELSEWHERE, NO_BOXES, NO_BOXES)],
    "no background": [([], ([A, B], [0, 2]), ([A, B], [0, 2]))],
    "no G_reg": [([NEAR_A, HALF_A, *ELSEWHERE], ([A], [1]), NO_BOXES)],
    "no G_cls": [([NEAR_A, HALF_A, *ELSEWHERE], NO_BOXES, ([A], [1]))],
    "both, different": [([NEAR_A, NEAR_B, HALF_A, *ELSEWHERE], ([A, B], [0, 2]), ([B, C], [2, 1]))],
    "three images": [
        ([NEAR_A, HALF_A, *ELSEWHERE], ([A, C], [0, 2]), ([A], [0])),
        (ELSEWHERE[:2], NO_BOXES, NO_BOXES),
        ([NEAR_B], ([B], [2]), ([B, A, C], [1, 0, 0])),
    ],
}


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
    """Stands in for the student's box head and for the teacher; remembers what it was asked."""

    def __init__(self, heads, monkeypatch, teacher=teacher_background):
        self.student_asked, self.teacher_asked = [], []
        self._teacher = teacher
        monkeypatch.setattr(heads, "predict", self.predict)

    def predict(self, features, boxes):
        self.student_asked.append([b.tensor.clone() for b in boxes])
        rows = torch.cat([b.tensor for b in boxes])
        self.scores = torch.tensor(student_scores(rows)).float().requires_grad_()
        self.deltas = torch.tensor(student_deltas(rows)).float().requires_grad_()
        return self.scores, self.deltas

    def score_with_teacher(self, boxes):
        self.teacher_asked.append([b.tensor.clone() for b in boxes])
        return [torch.tensor(self._teacher(b.tensor)).float() for b in boxes]


def tensor_boxes(boxes):
    return Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def proposals_of(scene):
    return [
        Instances(
            SIZE, proposal_boxes=tensor_boxes(boxes), objectness_logits=torch.zeros(len(boxes))
        )
        for boxes, _, _ in scene
    ]


def pseudo_of(scene, targets):
    return PseudoLabels([targets(*g) for _, g, _ in scene], [targets(*g) for _, _, g in scene])


def losses_and_reliability(heads, recorder, scene, targets):
    return heads.pseudo_losses(
        "features", proposals_of(scene), pseudo_of(scene, targets), recorder.score_with_teacher
    )


def pseudo_losses(*args):
    return losses_and_reliability(*args)[0]


def over(average, images, loss):
    """Eq. 3 averages over images; the released code knows only the GPU's batch."""
    if average == "gpu":
        return loss([sample for image in images for sample in image])
    return sum(map(loss, images)) / len(images)


INDICATORS = [*RELIABILITY, "none"]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize(
    "indicator, formula, average",
    list(itertools.product(INDICATORS, ["paper", "reference"], ["image", "gpu"])),
)
def test_classification_loss_of_equations_4_to_6(
    build_heads, monkeypatch, targets, scene, indicator, formula, average
):
    heads = build_heads(INDICATOR=indicator, CLS_FORMULA=formula, AVERAGE=average)
    losses = pseudo_losses(heads, Recorder(heads, monkeypatch), scene, targets)
    images = [samples_of(boxes, *g_cls) for boxes, g_cls, _ in scene]
    expected = over(average, images, lambda s: classification_loss(s, indicator, formula))
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("average", ["image", "gpu"])
@pytest.mark.parametrize("normalizer", ["foreground", "samples"])
def test_regression_loss_of_equation_10(
    build_heads, monkeypatch, targets, scene, normalizer, average
):
    heads = build_heads(REG_NORMALIZER=normalizer, AVERAGE=average)
    losses = pseudo_losses(heads, Recorder(heads, monkeypatch), scene, targets)
    images = [samples_of(boxes, *g_reg) for boxes, _, g_reg in scene]
    expected = over(average, images, lambda s: regression_loss(s, normalizer))
    assert losses["loss_box_reg"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("formula", ["paper", "reference"])
def test_without_any_reliability_the_background_term_is_zero(
    build_heads, monkeypatch, targets, scene, formula
):
    heads = build_heads(CLS_FORMULA=formula)
    recorder = Recorder(heads, monkeypatch, teacher=lambda boxes: np.zeros(len(boxes)))
    losses = pseudo_losses(heads, recorder, scene, targets)
    images = [samples_of(boxes, *g_cls) for boxes, g_cls, _ in scene]
    fg = [[cross_entropy(box, c) for box, c, _, _ in image if c != BG] for image in images]
    expected = np.mean([np.mean(f) if f else 0.0 for f in fg])
    assert losses["loss_cls"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("average", ["image", "gpu"])
def test_one_image_without_weights_has_the_stock_classification_loss(
    build_heads, monkeypatch, targets, scene, average
):
    scene = scene[:1]
    heads = build_heads(INDICATOR="none", AVERAGE=average)
    recorder = Recorder(heads, monkeypatch)
    losses = pseudo_losses(heads, recorder, scene, targets)

    pseudo = pseudo_of(scene, targets)
    samples = heads.label_and_sample_proposals(proposals_of(scene), pseudo.classification)
    predictions = recorder.predict("features", [s.proposal_boxes for s in samples])
    stock = heads.box_predictor.losses(predictions, samples)
    assert losses["loss_cls"].item() == pytest.approx(stock["loss_cls"].item(), rel=1e-6)


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_the_released_regression_loss_is_the_stock_one_on_g_reg(
    build_heads, monkeypatch, targets, scene
):
    heads = build_heads(REG_NORMALIZER="samples", AVERAGE="gpu")
    recorder = Recorder(heads, monkeypatch)
    losses = pseudo_losses(heads, recorder, scene, targets)

    pseudo = pseudo_of(scene, targets)
    samples = heads.label_and_sample_proposals(proposals_of(scene), pseudo.regression)
    predictions = recorder.predict("features", [s.proposal_boxes for s in samples])
    stock = heads.box_predictor.losses(predictions, samples)
    assert losses["loss_box_reg"].item() == pytest.approx(stock["loss_box_reg"].item(), rel=1e-6)


# --- what is asked of the box heads


def as_set(boxes):
    return sorted(map(tuple, np.asarray(boxes).reshape(-1, 4).tolist()))


@pytest.mark.parametrize("indicator", INDICATORS)
@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_the_student_scores_its_samples_in_one_pass_the_teacher_those_of_g_cls_if_needed(
    build_heads, monkeypatch, targets, scene, indicator
):
    heads = build_heads(INDICATOR=indicator)
    recorder = Recorder(heads, monkeypatch)
    pseudo_losses(heads, recorder, scene, targets)

    s_cls = [[s[0] for s in samples_of(boxes, *g)] for boxes, g, _ in scene]
    s_reg = [[s[0] for s in samples_of(boxes, *g) if s[1] != BG] for boxes, _, g in scene]
    (asked,) = recorder.student_asked
    assert [as_set(a) for a in asked] == [as_set(c + r) for c, r in zip(s_cls, s_reg)]
    if indicator in ("bg_teacher", "pred_diff"):
        (asked,) = recorder.teacher_asked
        assert [as_set(a) for a in asked] == [as_set(c) for c in s_cls]
    else:
        assert not recorder.teacher_asked


def test_s_cls_has_the_configured_number_of_samples_and_s_reg_is_a_second_draw(
    build_heads, monkeypatch, targets
):
    heads = build_heads(samples=16)
    recorder = Recorder(heads, monkeypatch)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 24, (100, 2))], axis=1).tolist()
    torch.manual_seed(0)
    pseudo_losses(heads, recorder, [(boxes, ([A], [0]), ([B] * 40, [2] * 40))], targets)

    ((asked,),) = recorder.student_asked
    ((s_cls,),) = recorder.teacher_asked
    assert len(s_cls) == 16
    # at most a quarter of a draw is foreground, here the copies of the one box of G_reg
    assert len(asked) == 16 + 4
    assert as_set(asked)[-4:] == as_set([B] * 4)


# --- gradients


@pytest.mark.parametrize("indicator", INDICATORS)
def test_r_is_a_constant_of_the_loss(build_heads, monkeypatch, targets, indicator):
    """The gradient of a logit is the row's coefficient times (softmax - one-hot)."""
    scene = SCENES["both, different"]
    heads = build_heads(INDICATOR=indicator)
    recorder = Recorder(heads, monkeypatch)
    pseudo_losses(heads, recorder, scene, targets)["loss_cls"].backward()

    ((boxes, g_cls, _),) = scene
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

    ((rows,),) = recorder.student_asked
    for box, gradient in list(zip(rows.tolist(), recorder.scores.grad))[: len(samples)]:
        scores = np.exp(student_scores(box))
        expected = scores / scores.sum() - np.eye(K + 1)[classes[tuple(box)]]
        np.testing.assert_allclose(gradient, weights[tuple(box)] * expected, rtol=1e-4, atol=1e-7)
    assert (recorder.scores.grad[len(samples) :] == 0).all()


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())
def test_both_losses_reach_the_predictions_even_where_they_are_zero(
    build_heads, monkeypatch, targets, scene
):
    heads = build_heads()
    recorder = Recorder(heads, monkeypatch)
    losses = pseudo_losses(heads, recorder, scene, targets)
    losses["loss_cls"].backward()
    assert recorder.scores.grad is not None and recorder.scores.grad.isfinite().all()
    losses["loss_box_reg"].backward()
    assert recorder.deltas.grad is not None and recorder.deltas.grad.isfinite().all()


# --- everything else is stock


def test_the_state_dict_has_the_keys_of_standard_roi_heads(build_heads, tiny_cfg):
    stock = StandardROIHeads(tiny_cfg, build_backbone(tiny_cfg).output_shape()).state_dict()
    mine = build_heads().state_dict()
    assert list(mine) == list(stock)
    assert all(mine[k].shape == stock[k].shape for k in stock)


@pytest.mark.parametrize("boxes, classes", [([], []), ([A, B], [0, 2])], ids=["no object", "two"])
def test_labeled_images_have_the_losses_of_standard_roi_heads(
    build_heads, tiny_cfg, targets, boxes, classes
):
    heads = build_heads(samples=16)
    backbone = build_backbone(tiny_cfg)
    stock = StandardROIHeads(tiny_cfg, backbone.output_shape()).train()
    stock.load_state_dict(heads.state_dict())
    features = backbone(torch.rand(1, 3, *SIZE))
    results = []
    for module in (heads, stock):
        torch.manual_seed(0)
        proposals = proposals_of([([NEAR_A, HALF_A, *ELSEWHERE], None, None)])
        results.append(module(None, features, proposals, [targets(boxes, classes)])[1])
    mine, theirs = results
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)


def test_predictions_of_given_boxes_are_those_of_the_stock_box_head(build_heads, tiny_cfg):
    heads = build_heads().eval()
    features = build_backbone(tiny_cfg)(torch.rand(2, 3, *SIZE))
    boxes = [tensor_boxes([A, C]), tensor_boxes([B])]
    pooled = heads.box_pooler([features["p2"], features["p3"]], boxes)
    scores, deltas = heads.box_predictor(heads.box_head(pooled))
    mine = heads.predict(features, boxes)
    assert torch.equal(mine[0], scores) and torch.equal(mine[1], deltas)

    probabilities = np.exp(scores.detach().double().numpy())
    background = probabilities[:, BG] / probabilities.sum(axis=1)
    first, second = heads.background_scores(mine, boxes)
    assert first.dtype == torch.float32
    np.testing.assert_allclose(first.detach(), background[:2], rtol=1e-5)
    np.testing.assert_allclose(second.detach(), background[2:], rtol=1e-5)


def test_no_boxes_have_no_predictions(build_heads, tiny_cfg):
    heads = build_heads()
    features = build_backbone(tiny_cfg)(torch.rand(2, 3, *SIZE))
    boxes = [tensor_boxes([]), tensor_boxes([])]
    scores, deltas = heads.predict(features, boxes)
    assert scores.shape == (0, K + 1) and deltas.shape == (0, 4 * K)
    assert [s.shape for s in heads.background_scores((scores, deltas), boxes)] == [(0,), (0,)]


# --- scalars


@pytest.mark.parametrize(
    "name, reg_samples, indicator",
    [
        ("no proposals, no pseudo boxes", 0, "bg_teacher"),
        ("both, different", 3, "bg_teacher"),
        ("three images", (2 + 0 + 4) / 3, "reverse_iou"),
    ],
)
def test_the_mean_number_of_regression_samples_is_logged_and_the_mean_reliability_returned(
    build_heads, monkeypatch, targets, storage, name, reg_samples, indicator
):
    scene = SCENES[name]
    heads = build_heads(INDICATOR=indicator)
    _, mean = losses_and_reliability(heads, Recorder(heads, monkeypatch), scene, targets)
    logged = {key: value for key, (value, _) in storage.latest().items()}
    assert logged["num_reg_samples"] == pytest.approx(reg_samples)
    samples = [s for boxes, g_cls, _ in scene for s in samples_of(boxes, *g_cls)]
    r = [RELIABILITY[indicator](s[0], s[3], teacher_background) for s in samples if s[1] == BG]
    expected = np.mean(r) if r else 0.0
    assert mean.shape == () and not mean.requires_grad
    assert mean.item() == pytest.approx(expected, rel=1e-5)


def test_without_weights_there_is_no_mean_reliability(build_heads, monkeypatch, targets, storage):
    heads, scene = build_heads(INDICATOR="none"), SCENES["three images"]
    _, mean = losses_and_reliability(heads, Recorder(heads, monkeypatch), scene, targets)
    assert "num_reg_samples" in storage.latest()
    assert mean is None


# --- configuration


def test_the_paper_is_the_default(build_heads):
    heads = build_heads()
    assert isinstance(heads, SoftTeacherROIHeads)
    assert (heads.indicator, heads.cls_formula) == ("bg_teacher", "paper")
    assert (heads.reg_normalizer, heads.average) == ("foreground", "image")


@pytest.mark.parametrize(
    "key, value",
    [
        ("INDICATOR", ""),
        ("INDICATOR", "BG-T"),
        ("CLS_FORMULA", "released"),
        ("REG_NORMALIZER", "proposals"),
        ("AVERAGE", "images"),
    ],
)
def test_an_unknown_choice_is_refused_by_its_key(build_heads, key, value):
    with pytest.raises(
        ConfigError, match=rf"^SOFT_TEACHER\.{key} .*'{value}'\Z"
    ), YAML_WORDS.spoken():
        build_heads(**{key: value})
