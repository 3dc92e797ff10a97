"""Losses of unlabeled images in cascaded ROI heads (Eq. 3-6 and 10 at every stage)."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from by_hand import (
    BG,
    RELIABILITY,
    K,
    box_deltas,
    classification_loss,
    matched,
    moved,
    samples_of,
    student_deltas,
    student_scores,
    teacher_background,
)
from detectron2.modeling import build_backbone, build_roi_heads
from detectron2.modeling.roi_heads import CascadeROIHeads
from scenes import EVERYTHING, every_scene, g_cls_of, g_reg_of, over, proposals_of
from steps import CASCADE, SIZE

from soft_teacher.modeling import PseudoLabels

IOUS = (0.5, 0.6, 0.7)
CODES = [np.array([c, c, c / 2, c / 2]) for c in (10.0, 20.0, 30.0)]
STAGES = range(3)
NO_FEATURES = {"p2": None, "p3": None}
# Each proposal counts the same, as in Detectron2.
PLAIN = dict(INDICATOR="none", AVERAGE="gpu", REG_NORMALIZER="samples")


@pytest.fixture
def build_heads(tiny_cfg):
    def build_heads(name="SoftTeacherCascadeROIHeads", **settings):
        cfg = tiny_cfg.clone()
        cfg.merge_from_list(list(CASCADE[:4]))
        cfg.MODEL.ROI_HEADS.NAME = name
        cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = EVERYTHING
        for key, value in settings.items():
            cfg.merge_from_list([f"SOFT_TEACHER.{key}", value])
        torch.manual_seed(0)
        return build_roi_heads(cfg, build_backbone(cfg).output_shape()).train()

    return build_heads


def features_of(images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"p2": (16, 24), "p3": (8, 12)}
    return {
        name: torch.randn(images, 8, *shape, generator=generator).requires_grad_()
        for name, shape in shapes.items()
    }


def fair_teacher(boxes, *, stage):
    return [torch.full((len(b),), 0.5) for b in boxes]


# --- against Detectron2's heads


def like(stock, heads):
    heads.load_state_dict(stock.state_dict())
    assert list(heads.state_dict()) == list(stock.state_dict())
    return heads


def gradients(losses, heads, features):
    """{name: gradient} of the sum of losses, of parameters and of features."""
    inputs = {**dict(heads.named_parameters()), **features}
    found = torch.autograd.grad(sum(losses.values()), list(inputs.values()))
    return dict(zip(inputs, found))


@every_scene
def test_labeled_images_have_the_losses_and_gradients_of_stock_heads_bit_by_bit(build_heads, scene):
    stock = build_heads("CascadeROIHeads")
    both = []
    for heads in (stock, like(stock, build_heads())):
        features = features_of(len(scene))
        torch.manual_seed(1)
        _, losses = heads(None, features, proposals_of(scene), g_cls_of(scene))
        both.append((losses, gradients(losses, heads, features)))
    assert type(stock) is CascadeROIHeads
    for theirs, ours in zip(*both):
        assert list(theirs) == list(ours) and all(torch.equal(theirs[k], ours[k]) for k in theirs)


@every_scene
def test_unlabeled_images_whose_samples_count_alike_have_them_too(build_heads, scene, storage):
    """Each image has one set of pseudo boxes. Features get a third of the gradient."""
    heads = build_heads(**PLAIN)
    both = []
    for pseudo in (False, True):
        features, labels = features_of(len(scene)), g_cls_of(scene)
        if pseudo:
            pseudo = PseudoLabels(labels, labels)
            losses, _ = heads.pseudo_losses(features, proposals_of(scene), pseudo, fair_teacher)
        else:
            _, losses = heads(None, features, proposals_of(scene), labels)
        both.append((losses, gradients(losses, heads, features)))
    (losses, slopes), (found, found_slopes) = both
    assert list(losses) == list(heads.box_loss_names) == list(found)
    for name, loss in losses.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-6, abs=1e-7), name
    for name, slope in slopes.items():
        torch.testing.assert_close(found_slopes[name], slope, rtol=1e-4, atol=1e-6, msg=name)


# --- against loops in float64, with predictions that are functions of the box


def deltas_of(boxes):
    return student_deltas(boxes)[..., :4]


def teacher_of_stage(boxes, stage):
    return teacher_background(np.asarray(boxes) + 5 * stage)


class Recorder:
    """In place of the student's stages and of the teacher; records the boxes of their passes."""

    def __init__(self, heads):
        self.student_boxes, self.teacher_boxes, self.outputs = [], [], []
        self._heads = heads
        heads._run_stage = self.run_stage

    def run_stage(self, features, proposals, stage):
        rows = torch.cat([p.proposal_boxes.tensor for p in proposals])
        self.student_boxes.append([p.proposal_boxes.tensor for p in proposals])
        found = student_scores(rows), deltas_of(rows)
        self.outputs.append([torch.tensor(x).float().requires_grad_() for x in found])
        return self.outputs[-1]

    def score_with_teacher(self, boxes, *, stage):
        self.teacher_boxes.append([b.tensor for b in boxes])
        return [torch.tensor(teacher_of_stage(b.tensor, stage)).float() for b in boxes]

    def losses(self, scene):
        pseudo = PseudoLabels(g_cls_of(scene), g_reg_of(scene))
        args = NO_FEATURES, proposals_of(scene), pseudo, self.score_with_teacher
        return self._heads.pseudo_losses(*args)


def s_cls_of(proposals, g_cls, _):
    """Rows that begin, and what they are matched to."""
    return [*proposals, *g_cls[0]], *g_cls


def s_reg_of(proposals, g_cls, g_reg):
    """Likewise: backgrounds of G_reg among S_cls, and foregrounds."""
    s_cls, *_ = s_cls_of(proposals, g_cls, g_reg)
    backgrounds = [s[0] for s in matched(s_cls, *g_reg) if s[1] == BG]
    return [*backgrounds, *foregrounds_of(proposals, g_reg)], *g_reg


def foregrounds_of(proposals, g_reg):
    return [s[0] for s in samples_of(proposals, *g_reg) if s[1] != BG]


def stages_of(rows, boxes, classes):
    """The matched rows of each stage; those that leave the image, or have no area, are dropped."""
    rows = np.array(rows, np.float64).reshape(-1, 4)
    for threshold, code in zip(IOUS, CODES):
        yield matched(rows, boxes, classes, threshold, margin=1e-4)
        rows = moved(rows, deltas_of(rows), code).clip(0, [*SIZE[::-1]] * 2)
        rows = rows[(rows[:, 2:] > rows[:, :2]).all(axis=1)]


def regression_loss(samples, code, normalizer):
    foreground = [s for s in samples if s[1] != BG]
    losses = [np.abs(deltas_of(s[0]) - box_deltas(s[0], s[2], code)).sum() for s in foreground]
    return sum(losses) / max(len(foreground if normalizer == "foreground" else samples), 1)


@every_scene
@pytest.mark.parametrize(
    "indicator, formula, average",
    [
        *itertools.product([*RELIABILITY, "none"], ["paper", "reference"], ["image"]),
        *itertools.product(["bg_teacher"], ["paper", "reference"], ["gpu"]),
    ],
)
def test_every_stage_has_the_classification_loss_of_equations_4_to_6(
    build_heads, scene, indicator, formula, average
):
    heads = build_heads(INDICATOR=indicator, CLS_FORMULA=formula, AVERAGE=average)
    losses, mean = Recorder(heads).losses(scene)
    images = [list(stages_of(*s_cls_of(*image))) for image in scene]
    reliabilities = []
    for stage, samples in zip(STAGES, zip(*images)):
        teacher = partial(teacher_of_stage, stage=stage)
        loss = partial(classification_loss, indicator=indicator, formula=formula, teacher=teacher)
        found = losses[f"loss_cls_stage{stage}"].item()
        assert found == pytest.approx(over(average, samples, loss), rel=1e-4)
        background = [s for image in samples for s in image if s[1] == BG]
        if indicator != "none":
            reliabilities += [RELIABILITY[indicator](s[0], s[3], teacher) for s in background]
    assert (mean is None) == (indicator == "none")
    if mean is not None:
        expected = np.mean(reliabilities) if reliabilities else 0.0
        assert not mean.requires_grad and mean.item() == pytest.approx(expected, rel=1e-4)


@every_scene
@pytest.mark.parametrize("average", ["image", "gpu"])
@pytest.mark.parametrize("normalizer", ["foreground", "samples"])
def test_every_stage_has_the_regression_loss_of_equation_10(
    build_heads, scene, normalizer, average
):
    losses, _ = Recorder(build_heads(REG_NORMALIZER=normalizer, AVERAGE=average)).losses(scene)
    images = [list(stages_of(*s_reg_of(*image))) for image in scene]
    for stage, samples in zip(STAGES, zip(*images)):
        loss = partial(regression_loss, code=CODES[stage], normalizer=normalizer)
        found = losses[f"loss_box_reg_stage{stage}"].item()
        assert found == pytest.approx(over(average, samples, loss), rel=1e-4)


@every_scene
def test_s_cls_and_foregrounds_of_g_reg_pass_through_each_stage_and_teachers_score_s_cls(
    build_heads, scene
):
    """Once. And both losses reach the predictions even where they are zero."""
    recorder = Recorder(build_heads())
    losses, _ = recorder.losses(scene)
    s_cls = zip(*[stages_of(*s_cls_of(*image)) for image in scene])
    s_reg = zip(*[stages_of(foregrounds_of(boxes, g), *g) for boxes, _, g in scene])
    stages = zip(recorder.student_boxes, recorder.teacher_boxes, s_cls, s_reg, strict=True)
    for rows, scored, *sets in stages:
        for image, boxes, *samples in zip(rows, scored, *sets, strict=True):
            cls, reg = ([s[0] for s in own] for own in samples)
            np.testing.assert_allclose(ordered(boxes), ordered(cls), atol=1e-3)
            np.testing.assert_allclose(ordered(image), ordered(cls + reg), atol=1e-3)
    sum(losses.values()).backward()
    for scores, deltas in recorder.outputs:
        assert scores.grad.isfinite().all() and deltas.grad.isfinite().all()


def ordered(boxes):
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return boxes[np.lexsort(boxes.round(1).T)]


def test_a_background_that_a_stage_moves_onto_a_box_learns_regression_at_the_next(build_heads):
    heads, seen = build_heads(), []
    box, beside = [10.0, 10, 40, 40], [30.0, 10, 60, 40]  # IoU 0.2
    onto = torch.tensor(box_deltas(beside, box, CODES[0])).float()

    def run_stage(features, proposals, stage):
        rows = torch.cat([p.proposal_boxes.tensor for p in proposals])
        moves = (rows == torch.tensor(beside)).all(dim=1, keepdim=True)
        return torch.zeros(len(rows), K + 1), moves * onto

    weighted = heads.weighted_losses
    heads.weighted_losses = lambda *args: seen.append(args[3].regression[0]) or weighted(*args)
    heads._run_stage = run_stage
    scene = [([beside], ([], []), ([box], [1]))]
    pseudo = PseudoLabels(g_cls_of(scene), g_reg_of(scene))
    losses, _ = heads.pseudo_losses(NO_FEATURES, proposals_of(scene), pseudo, fair_teacher)
    assert [rows.gt_classes.tolist() for rows in seen] == [[BG, 1], [1, 1], [1, 1]]
    assert all(losses[f"loss_box_reg_stage{stage}"] < 1e-4 for stage in STAGES)
