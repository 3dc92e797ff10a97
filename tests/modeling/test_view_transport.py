"""Pseudo boxes on their way from the weak to the strong view and back."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes
from steps import BOXES, CLASSES, count_calls

from soft_teacher.modeling.views import ViewTransport

# --- boxes alone


@pytest.mark.parametrize("n", [0, 1, 4])
def test_boxes_are_carried_enclosed_and_clipped(view_change, carry_in_numpy, n):
    """From either view to the other, each image by its own matrix."""
    matrix, size = view_change
    boxes = Boxes(torch.tensor(BOXES[:n], dtype=torch.float32).reshape(-1, 4))
    matrices = torch.as_tensor(np.stack([matrix, np.eye(3)]), dtype=torch.float32)
    sizes = [(64, 96)] * 2, [size, (30, 40)]
    transport = ViewTransport(matrices, *sizes, torch.device("cpu"))
    for carry, there, back in (
        (transport.to_strong, matrix, sizes[1]),
        (transport.to_weak, np.linalg.inv(matrix), sizes[0]),
    ):
        for found, m, s in zip(carry([boxes, boxes]), (there, np.eye(3)), back, strict=True):
            expected = carry_in_numpy(BOXES[:n], m, s)
            np.testing.assert_allclose(found.tensor, expected, rtol=0, atol=1e-4)


# --- in a step


class Listener:
    """Writes down what the student learns from and what the teacher is asked to score."""

    def __init__(self, model, monkeypatch):
        heads, teacher = model.student.roi_heads, model.teacher.roi_heads
        pseudo_losses, predict = heads.pseudo_losses, teacher.predict

        def overheard_losses(features, proposals, pseudo, score_with_teacher):
            self.pseudo = pseudo

            def overheard_score(boxes):
                self.s_cls = [b.tensor.clone() for b in boxes]
                self.background = score_with_teacher(boxes)
                return self.background

            return pseudo_losses(features, proposals, pseudo, overheard_score)

        def overheard_predict(features, boxes):
            self.asked_of_teacher = [b.tensor.clone() for b in boxes]
            return predict(features, boxes)

        def overheard_rpn(module, args):
            self.rpn_targets = args[2]

        monkeypatch.setattr(heads, "pseudo_losses", overheard_losses)
        monkeypatch.setattr(teacher, "predict", overheard_predict)
        model.student.proposal_generator.register_forward_pre_hook(overheard_rpn)


def inside(boxes):
    return [(b[2:] > b[:2]).all() for b in np.asarray(boxes)]


SHIFT = np.array([[1.0, 0, -60], [0, 1, 5], [0, 0, 1]])  # boxes 0 and 2 leave to the left


def test_pseudo_boxes_are_chosen_in_the_weak_view_and_learned_in_the_strong_view(
    build, unlabeled, inject, detections, known_variances, monkeypatch, view_change, carry_in_numpy
):
    matrix, size = view_change
    model = build()
    listener = Listener(model, monkeypatch)
    scores = [[0.95, 0.6, 0.9, 0.91], [0.99, 0.99, 0.4, 0.92], []]
    inject(model, [detections(BOXES, CLASSES, s) for s in scores[:2]] + [detections(size=(64, 96))])
    asked = known_variances(model, [[0.05, 0.01, 0.019, 0.02], [0.5, 0.01, 0.0], []])
    images = [
        unlabeled(3, matrix, size=size, weak_size=(64, 96)),
        unlabeled(4, SHIFT),
        unlabeled(5, matrix, size=size, weak_size=(64, 96)),
    ]
    model(images)

    candidates = [[list(map(float, BOXES[i])) for i in rows] for rows in ([0, 1, 2, 3], [0, 1, 3])]
    ((refine, measured, seeds),) = asked
    assert [c.pred_boxes.tensor.tolist() for c in measured] == [*candidates, []]
    assert seeds == [3, 4, 5]
    refine([c.pred_boxes for c in measured], [c.pred_classes for c in measured])
    assert [boxes.tolist() for boxes in listener.asked_of_teacher] == [*candidates, []]

    maps = [(matrix, size), (SHIFT, (64, 96)), (matrix, size)]
    g_cls, g_reg = [[0, 3], [0, 1, 3], []], [[1, 2], [1, 3], []]
    for labels, chosen in (
        (listener.pseudo.classification, g_cls),
        (listener.rpn_targets, g_cls),
        (listener.pseudo.regression, g_reg),
    ):
        assert len(labels) == 3
        for found, rows, (m, s) in zip(labels, chosen, maps):
            carried = carry_in_numpy([BOXES[i] for i in rows], m, s)
            kept = inside(carried)
            expected = carried[np.array(kept, dtype=bool)]
            assert found.image_size == s
            np.testing.assert_allclose(found.gt_boxes.tensor, expected, rtol=0, atol=1e-3)
            assert found.gt_classes.tolist() == [CLASSES[i] for i, k in zip(rows, kept) if k]
    assert listener.pseudo.classification[1].gt_classes.tolist() == [CLASSES[1], CLASSES[3]]


def test_without_jitter_both_sets_are_those_above_the_classification_threshold(
    build, unlabeled, inject, detections, monkeypatch
):
    model = build("SOFT_TEACHER.JITTER.ENABLED", False)
    listener = Listener(model, monkeypatch)
    inject(model, [detections(BOXES, CLASSES, [0.95, 0.6, 0.3, 0.99]), detections()])
    model([unlabeled(0), unlabeled(1)])
    for labels in (listener.pseudo.classification, listener.pseudo.regression):
        assert [g.gt_boxes.tensor.tolist() for g in labels] == [[BOXES[0], BOXES[3]], []]
        assert [g.gt_classes.tolist() for g in labels] == [[CLASSES[0], CLASSES[3]], []]


@pytest.mark.parametrize("indicator", ["bg_teacher", "pred_diff"])
def test_samples_return_to_the_weak_view_to_be_scored_on_the_teachers_own_features(
    build, unlabeled, inject, detections, monkeypatch, view_change, carry_in_numpy, indicator
):
    matrix, size = view_change
    model = build("SOFT_TEACHER.JITTER.ENABLED", False, "SOFT_TEACHER.INDICATOR", indicator)
    # The student must not be mistaken for the teacher.
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    listener = Listener(model, monkeypatch)
    inject(model, [detections(BOXES, CLASSES, [0.95] * 4), detections()])
    maps = [(matrix, (64, 96)), (SHIFT, (50, 70))]  # the smaller weak view is padded
    images = [
        unlabeled(0, matrix, size=size, weak_size=(64, 96)),
        unlabeled(1, SHIFT, weak_size=(50, 70)),
    ]
    model(images)

    assert [len(boxes) for boxes in listener.s_cls] == [16, 16]
    weak = []
    for boxes, asked, (m, s) in zip(listener.s_cls, listener.asked_of_teacher, maps):
        weak.append(carry_in_numpy(boxes, np.linalg.inv(m), s))
        np.testing.assert_allclose(asked, weak[-1], rtol=0, atol=1e-3)

    teacher = model.teacher
    features = teacher.backbone(
        teacher.preprocess_image([{"image": x["weak_image"]} for x in images]).tensor
    )
    heads = teacher.roi_heads
    boxes = [Boxes(torch.tensor(w, dtype=torch.float32)) for w in weak]
    pooled = heads.box_pooler([features[f] for f in heads.box_in_features], boxes)
    scores = heads.box_predictor(heads.box_head(pooled))[0].detach().double()
    background = scores.softmax(dim=1)[:, -1].split(16)
    assert torch.cat(background).std() > 0
    for found, expected in zip(listener.background, background):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_teacher_looks_at_the_weak_view_and_the_student_at_the_strong_view(
    build, labeled, unlabeled
):
    model = build()
    teacher, student = count_calls(model.teacher.backbone), count_calls(model.student.backbone)
    images = [labeled(0), unlabeled(0), unlabeled(1)]
    model(images)

    def normalised(pictures):
        mean, std = model.student.pixel_mean, model.student.pixel_std
        return torch.stack([(picture - mean) / std for picture in pictures])

    assert torch.equal(teacher[0][0][0], normalised([x["weak_image"] for x in images[1:]]))
    assert torch.equal(student[0][0][0], normalised([x["image"] for x in images]))
