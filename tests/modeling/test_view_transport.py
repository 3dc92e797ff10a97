"""Pseudo boxes on their way from the weak to the strong view and back."""

import numpy as np
import pytest
import torch
from by_hand import warp
from steps import (
    BOXES,
    CLASSES,
    SIZE,
    batch_of,
    boxes_of,
    count_calls,
    detections,
    inject,
    known_variances,
    unlabeled,
)

from soft_teacher.modeling.views import ViewTransport


@pytest.mark.parametrize("n", [0, 1, 4])
def test_boxes_are_warped_enclosed_and_clipped(view_change, n):
    """From either view to the other, each image by its own matrix."""
    matrix, size = view_change
    boxes = boxes_of(BOXES[:n])
    matrices = torch.as_tensor(np.stack([matrix, np.eye(3)]), dtype=torch.float32)
    sizes = [SIZE] * 2, [size, (30, 40)]
    transport = ViewTransport(matrices, *sizes, torch.device("cpu"))
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    np.testing.assert_allclose(transport.scales, [scale, 1], rtol=1e-6)
    for move, there, back in (
        (transport.to_strong, matrix, sizes[1]),
        (transport.to_weak, np.linalg.inv(matrix), sizes[0]),
    ):
        for found, m, s in zip(move([boxes, boxes]), (there, np.eye(3)), back, strict=True):
            np.testing.assert_allclose(found.tensor, warp(BOXES[:n], m, s), rtol=0, atol=1e-4)


# --- in a step


class Listener:
    """Records what the student learns from and what the teacher is asked to score."""

    def __init__(self, model):
        heads, teacher = model.student.roi_heads, model.teacher.roi_heads
        pseudo_losses, predict = heads.pseudo_losses, teacher.predict

        def recorded_losses(features, proposals, pseudo, score_with_teacher):
            self.pseudo = pseudo

            def recorded_score(boxes):
                self.s_cls = [b.tensor.clone() for b in boxes]
                self.background = score_with_teacher(boxes)
                return self.background

            return pseudo_losses(features, proposals, pseudo, recorded_score)

        def recorded_predict(features, boxes):
            self.teacher_boxes = [b.tensor.clone() for b in boxes]
            return predict(features, boxes)

        def record_rpn(module, args):
            self.rpn_targets = args[2]

        heads.pseudo_losses, teacher.predict = recorded_losses, recorded_predict
        model.student.proposal_generator.register_forward_pre_hook(record_rpn)


SHIFT = np.array([[1.0, 0, -60], [0, 1, 5], [0, 0, 1]])  # boxes 0 and 2 leave to the left


def test_pseudo_boxes_are_chosen_in_the_weak_view_and_learned_in_the_strong_view(
    build, view_change
):
    matrix, size = view_change
    model = build()
    listener = Listener(model)
    scores = [[0.95, 0.6, 0.9, 0.91], [0.99, 0.99, 0.4, 0.92]]
    inject(model, [detections(BOXES, CLASSES, s) for s in scores] + [detections()])
    calls = known_variances(model, [[0.05, 0.01, 0.019, 0.02], [0.5, 0.01, 0.0], []])
    images = [
        unlabeled(3, matrix, size=size, weak_size=SIZE),
        unlabeled(4, SHIFT),
        unlabeled(5, matrix, size=size, weak_size=SIZE),
    ]
    model(images)

    candidates = [[BOXES[i] for i in rows] for rows in ([0, 1, 2, 3], [0, 1, 3], [])]
    ((refine, measured, seeds),) = calls
    assert [c.pred_boxes.tensor.tolist() for c in measured] == candidates
    assert seeds == [3, 4, 5]
    refine([c.pred_boxes for c in measured], [c.pred_classes for c in measured])
    assert [boxes.tolist() for boxes in listener.teacher_boxes] == candidates

    maps = [(matrix, size), (SHIFT, SIZE), (matrix, size)]
    g_cls, g_reg = [[0, 3], [0, 1, 3], []], [[1, 2], [1, 3], []]
    for labels, chosen in (
        (listener.pseudo.classification, g_cls),
        (listener.rpn_targets, g_cls),
        (listener.pseudo.regression, g_reg),
    ):
        for found, rows, (m, s) in zip(labels, chosen, maps, strict=True):
            moved = warp([BOXES[i] for i in rows], m, s)
            kept = (moved[:, 2:] > moved[:, :2]).all(axis=1)
            assert found.image_size == s
            np.testing.assert_allclose(found.gt_boxes.tensor, moved[kept], rtol=0, atol=1e-3)
            assert found.gt_classes.tolist() == [CLASSES[i] for i, k in zip(rows, kept) if k]
    assert listener.pseudo.classification[1].gt_classes.tolist() == [CLASSES[1], CLASSES[3]]


@pytest.mark.parametrize("indicator", ["bg_teacher", "pred_diff"])
def test_samples_return_to_the_weak_view_to_be_scored_on_the_teachers_own_features(
    build, view_change, indicator
):
    matrix, size = view_change
    model = build("SOFT_TEACHER.JITTER.ENABLED", False, "SOFT_TEACHER.INDICATOR", indicator)
    # The student must not be mistaken for the teacher.
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    listener = Listener(model)
    inject(model, [detections(BOXES, CLASSES, [0.95] * 4), detections()])
    maps = [(matrix, SIZE), (SHIFT, (50, 70))]  # the smaller weak view is padded
    images = [
        unlabeled(0, matrix, size=size, weak_size=SIZE),
        unlabeled(1, SHIFT, weak_size=(50, 70)),
    ]
    model(images)

    assert [len(boxes) for boxes in listener.s_cls] == [16, 16]
    weak = [warp(b, np.linalg.inv(m), s) for b, (m, s) in zip(listener.s_cls, maps)]
    for found, expected in zip(listener.teacher_boxes, weak):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)

    teacher, heads = model.teacher, model.teacher.roi_heads
    batch = teacher.preprocess_image([{"image": x["weak_image"]} for x in images])
    features = teacher.backbone(batch.tensor)
    pooled = heads.box_pooler(
        [features[f] for f in heads.box_in_features], list(map(boxes_of, weak))
    )
    scores = heads.box_predictor(heads.box_head(pooled))[0].detach().double()
    background = scores.softmax(dim=1)[:, -1]
    assert background.std() > 0
    np.testing.assert_allclose(torch.cat(listener.background), background, rtol=0, atol=1e-3)


def test_the_teacher_looks_at_the_weak_view_and_the_student_at_the_strong_view(build):
    model = build()
    teacher, student = count_calls(model.teacher.backbone), count_calls(model.student.backbone)
    images = batch_of(1, 2)
    model(images)

    def normalized(pictures):
        mean, std = model.student.pixel_mean, model.student.pixel_std
        return torch.stack([(picture - mean) / std for picture in pictures])

    assert torch.equal(teacher[0][0][0], normalized([x["weak_image"] for x in images[1:]]))
    assert torch.equal(student[0][0][0], normalized([x["image"] for x in images]))
