"""Losses over all anchors against numpy in float64, anchor by anchor."""

import numpy as np
import pytest
import torch
from by_hand import box_deltas
from detectron2.modeling import RetinaNet
from detectron2.modeling.box_regression import Box2BoxTransform
from steps import boxes_of, labeled

from soft_teacher.modeling.families.dense.losses import (
    anchor_weights,
    classification_loss,
    is_positive,
    regression_loss,
)

K, IGNORED = 3, -1
BG = K
ALPHA, GAMMA = 0.25, 2.0
CODE = np.array([2.0, 2.0, 1.0, 1.0])

# Labels of the anchors of one image.
SCENES = {
    "no anchor": [],
    "all ignored": [IGNORED] * 6,
    "backgrounds alone": [BG] * 6,
    "one positive": [BG, 2, BG, IGNORED, BG, BG],
    "several": [0, BG, 2, IGNORED, 2, BG],
    "no background": [0, 1, 2, IGNORED, 2, 1],
}


def weights_by_hand(labels, r):
    positive = sum(0 <= label < K for label in labels)
    suspected = sum(1 - x for label, x in zip(labels, r) if label == BG)
    count = max(positive + suspected, 1)
    weights = {IGNORED: lambda x: 0, BG: lambda x: x / count}
    return [weights.get(label, lambda x: 1 / count)(x) for label, x in zip(labels, r)]


def focal(logit, target):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    p_t, alpha_t = (p, ALPHA) if target else (1 - p, 1 - ALPHA)
    return -alpha_t * (1 - p_t) ** GAMMA * np.log(p_t)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("labels", SCENES.values(), ids=SCENES.keys())
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_of_anchors(labels, weighted, rng):
    """The reliability of other anchors than backgrounds is not read."""
    r = rng.uniform(0, 1, len(labels))
    read = np.where(np.array(labels) == BG, r, 9)
    found = anchor_weights(
        torch.tensor([labels]).long(), K, torch.tensor(read)[None].float() if weighted else None
    )
    expected = weights_by_hand(labels, r if weighted else np.ones(len(labels)))
    assert found.dtype == torch.float32 and found.shape == (1, len(labels))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_a_teacher_that_suspects_objects_everywhere_counts_them_all():
    weights = anchor_weights(torch.tensor([[0, BG, BG, IGNORED]]), K, torch.zeros(1, 4))
    assert weights.tolist() == [[pytest.approx(1 / 3), 0, 0, 0]]


def test_classification_is_a_mean_over_images(rng):
    scenes = [labels for labels in SCENES.values() if labels]
    logits = rng.normal(0, 2, (len(scenes), 6, K))
    r = rng.uniform(0, 1, (len(scenes), 6))
    expected = [
        sum(
            weight * sum(focal(logits[image, anchor, c], c == label) for c in range(K))
            for anchor, (label, weight) in enumerate(zip(labels, weights_by_hand(labels, r[image])))
        )
        for image, labels in enumerate(scenes)
    ]
    found = classification_loss(
        torch.tensor(logits).float(),
        torch.tensor(scenes),
        torch.tensor(r).float(),
        alpha=ALPHA,
        gamma=GAMMA,
    )
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def random_boxes(rng, n):
    corners = rng.uniform(0, 50, (n, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 40, (n, 2))], axis=1)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_regression_is_a_mean_over_images(rng, beta):
    labels = np.array([labels for labels in SCENES.values() if labels])
    anchors, targets = random_boxes(rng, 6), random_boxes(rng, labels.size).reshape(-1, 6, 4)
    deltas = rng.normal(0, 1, (*labels.shape, 4))

    def smooth_l1(x):
        return np.where(x < beta, 0.5 * x**2 / (beta or 1), x - 0.5 * beta).sum()

    expected = []
    for image, row in enumerate(labels):
        rows = [anchor for anchor, label in enumerate(row) if 0 <= label < K]
        losses = [
            smooth_l1(np.abs(deltas[image, n] - box_deltas(anchors[n], targets[image, n], CODE)))
            for n in rows
        ]
        expected.append(sum(losses) / max(len(rows), 1))
    found = regression_loss(
        [boxes_of(anchors[:4]), boxes_of(anchors[4:])],
        torch.tensor(deltas).float(),
        is_positive(torch.tensor(labels), K),
        list(torch.tensor(targets).float()),
        Box2BoxTransform(weights=CODE.tolist()),
        box_reg_loss_type="smooth_l1",
        smooth_l1_beta=beta,
    )
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_one_labeled_image_has_detectron2_s_losses(tiny_cfg, build, kind):
    """If Detectron2's running mean of positives is the number of this image."""
    tiny_cfg.merge_from_list(["MODEL.RETINANET.BBOX_REG_LOSS_TYPE", kind])
    model, sample = build("SOFT_TEACHER.DETECTOR", "RetinaNet"), labeled()
    stock = RetinaNet(tiny_cfg).train()
    stock.load_state_dict(model.student.state_dict())
    features = stock.backbone(stock.preprocess_image([sample]).tensor)
    anchors = stock.anchor_generator([features[f] for f in stock.head_in_features])
    labels, _ = stock.label_anchors(anchors, [sample["instances"]])
    stock.loss_normalizer = is_positive(labels[0], K).sum().item()
    assert stock.loss_normalizer > 1
    losses = model([sample])
    for name, loss in stock([sample]).items():
        assert losses[f"sup/{name}"].item() == pytest.approx(loss.item(), rel=1e-5)
