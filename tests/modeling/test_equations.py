"""A whole training step against Eq. 1-5, 10 and 11, computed image by image in float64.

Every network is a known function of its box, and the teacher's detections are given. All else is
the training code.
"""

import numpy as np
import pytest
import torch
from by_hand import (
    CODE,
    K,
    box_deltas,
    classification_loss,
    regression_loss,
    samples_of,
    student_deltas,
    student_scores,
    teacher_background,
)
from detectron2.structures import Instances
from steps import boxes_of, detections, inject, labeled, targets, unlabeled

WIDTH = 96
A, B, C = [10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60]
PROPOSALS = [[12, 10, 40, 42], [50, 22, 86, 60], [10, 10, 22, 40], [60, 0, 80, 10], [0, 0, 8, 8]]
FLIP = [[-1.0, 0, WIDTH], [0, 1, 0], [0, 0, 1]]

# boxes and classes; as many boxes each, so that all images have as many samples
LABELED = [([A, B], [0, 2]), ([B, C], [1, 0]), ([C, A], [2, 2])]
# weak to strong view, and in the weak view what the teacher detects: boxes, classes, scores
UNLABELED = [
    (FLIP, [A, B, C], [0, 2, 1], [0.95, 0.97, 0.6]),
    (np.eye(3), [], [], []),
    (FLIP, [B, A], [1, 2], [0.7, 0.92]),
]
UNSTABLE = 2  # the teacher moves boxes of this class by nothing, others almost to one goal
GOALS = [A, C]

# per rank: the labeled and the unlabeled images of the step
STEPS = {
    "labeled images alone": [([0, 1, 2], [])],
    "unlabeled images alone": [([], [0, 1, 2])],
    "one rank": [([0, 1, 2], [0, 1, 2])],
    "two ranks": [([0], [0, 1]), ([1, 2], [2])],
    "a rank without labeled images, one without unlabeled": [([], [1, 2, 0]), ([2, 0], [])],
}
every_step = pytest.mark.parametrize("ranks", STEPS.values(), ids=STEPS.keys())


def flipped(box):
    return [WIDTH - box[2], box[1], WIDTH - box[0], box[3]]


def teacher_scores(boxes):
    """Logits whose softmax gives the background ``teacher_background``."""
    background = teacher_background(boxes)[:, None]
    return np.log(np.concatenate([(1 - background).repeat(K, axis=1) / K, background], axis=1))


def teacher_deltas(boxes):
    still = np.zeros((len(boxes), 4))
    pulls = [[0.9 * box_deltas(b, goal) for b in np.float64(boxes)] for goal in GOALS]
    return np.concatenate([*(np.reshape(p, (-1, 4)) for p in pulls), still], axis=1)


# --- the code


class Coordinates(torch.nn.Module):
    """A pooler for which the features of a box are its coordinates."""

    def forward(self, features, boxes):
        return torch.cat([b.tensor for b in boxes])


def known(scores, deltas):
    def forward(boxes):
        return tuple(torch.tensor(function(boxes)).float() for function in (scores, deltas))

    return forward


def propose(images, features, targets):
    boxes = boxes_of(PROPOSALS)
    logits = torch.zeros(len(PROPOSALS))
    sizes = images.image_sizes
    return [Instances(s, proposal_boxes=boxes, objectness_logits=logits) for s in sizes], {}


@pytest.fixture
def losses(build, monkeypatch):
    """losses(ranks, alpha): the losses of every rank."""

    def losses(ranks, alpha):
        model = build("SOFT_TEACHER.ALPHA", alpha, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 256)
        assert tuple(CODE) == model.student.roi_heads.box_predictor.box2box_transform.weights
        for network, scores, deltas in (
            (model.student, student_scores, student_deltas),
            (model.teacher, teacher_scores, teacher_deltas),
        ):
            network.roi_heads.box_pooler = Coordinates()
            network.roi_heads.box_head = torch.nn.Identity()
            predictor = network.roi_heads.box_predictor
            monkeypatch.setattr(predictor, "forward", known(scores, deltas))
            monkeypatch.setattr(network.proposal_generator, "forward", propose)
        n_l, n_u = (sum(len(rank[stream]) for rank in ranks) for stream in (0, 1))
        found = []
        for mine, theirs in ranks:
            weights = [len(ranks) / n if n else None for n in (n_l, n_u)]
            batch = [
                labeled(i, instances=targets(*LABELED[i]), image_weight=weights[0]) for i in mine
            ]
            batch += [unlabeled(i, UNLABELED[i][0], image_weight=weights[1]) for i in theirs]
            inject(model, [detections(*UNLABELED[i][1:]) for i in theirs])
            found.append({name: loss.item() for name, loss in model(batch).items()})
        return found

    return losses


def total(losses, stream=""):
    """The mean over the ranks, which is what DDP makes of their gradients."""
    sums = [sum(v for name, v in rank.items() if name.startswith(stream)) for rank in losses]
    return sum(sums) / len(sums)


# --- the paper


def labeled_loss(boxes, classes):
    """L_cls + L_reg of a labeled image: Detectron2's means over its samples."""
    samples = samples_of(PROPOSALS, boxes, classes)
    return classification_loss(samples, "none", None) + regression_loss(samples, "samples")


def unlabeled_loss(weak_to_strong, boxes, classes, scores):
    """Eq. 4 + Eq. 10 of an unlabeled image. G_cls and G_reg come from different thresholds."""
    there = flipped if weak_to_strong is FLIP else list

    def samples(kept):
        chosen = [(there(b), c) for b, c, k in zip(boxes, classes, kept) if k]
        return samples_of(PROPOSALS, [b for b, _ in chosen], [c for _, c in chosen])

    g_cls = samples([score > 0.9 for score in scores])
    g_reg = samples([score > 0.5 and c != UNSTABLE for score, c in zip(scores, classes)])
    teacher = lambda box: teacher_background(there(box))  # a flip is its own inverse
    cls = classification_loss(g_cls, "bg_teacher", "paper", teacher)
    return cls + regression_loss(g_reg, "foreground")


def mean_of(loss, images, chosen):
    return sum(loss(*images[i]) for i in chosen) / max(len(chosen), 1)


def supervised(ranks):
    """L_s of Eq. 2."""
    return mean_of(labeled_loss, LABELED, [i for mine, _ in ranks for i in mine])


def unsupervised(ranks):
    """L_u of Eq. 3 and 11."""
    return mean_of(unlabeled_loss, UNLABELED, [i for _, theirs in ranks for i in theirs])


@every_step
@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_equation_1(losses, ranks, alpha):
    """The losses of a step add up to L = L_s + alpha L_u."""
    expected = supervised(ranks) + alpha * unsupervised(ranks)
    assert expected > 0.1
    assert total(losses(ranks, alpha)) == pytest.approx(expected, rel=1e-5)


@every_step
def test_equation_2(losses, ranks):
    """L_s is the mean of the labeled images of all ranks."""
    assert total(losses(ranks, 4.0), "sup/") == pytest.approx(supervised(ranks), rel=1e-5)


@every_step
def test_equations_3_and_11(losses, ranks):
    """L_u is the mean of the unlabeled images of all ranks, each with its G_cls and G_reg."""
    assert total(losses(ranks, 1.0), "unsup/") == pytest.approx(unsupervised(ranks), rel=1e-5)


def test_the_scene_has_boxes_of_every_kind():
    """Pseudo boxes for both, for one of classification and regression, and none."""
    detected = [found for _, *image in UNLABELED for found in zip(*image)]
    kinds = {(score > 0.9, c != UNSTABLE) for _, c, score in detected}
    assert kinds == {(True, True), (True, False), (False, True)}
    assert any(not boxes for _, boxes, _, _ in UNLABELED)
