"""Losses with a coefficient per proposal, against Detectron2's and against float64 numbers."""

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances

from soft_teacher.modeling import SoftFastRCNNOutputLayers

K = 3
BG = K
CODE = (10.0, 10.0, 5.0, 5.0)


def layers(cls=SoftFastRCNNOutputLayers, **kwargs):
    torch.manual_seed(0)
    transform = Box2BoxTransform(weights=CODE)
    return cls(ShapeSpec(channels=4), box2box_transform=transform, num_classes=K, **kwargs)


def proposals(classes, cls_weight=None, reg_weight=None, seed=0):
    rng = np.random.default_rng(seed)
    n = len(classes)
    boxes, targets = (random_boxes(rng, n) for _ in range(2))
    result = Instances((100, 100), proposal_boxes=Boxes(boxes), gt_boxes=Boxes(targets))
    result.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if cls_weight is not None:
        result.cls_weight = torch.tensor(cls_weight, dtype=torch.float32)
        result.reg_weight = torch.tensor(reg_weight, dtype=torch.float32)
    return result


def random_boxes(rng, n):
    corner, side = rng.uniform(0, 50, (n, 2)), rng.uniform(5, 50, (n, 2))
    return torch.tensor(np.concatenate([corner, corner + side], axis=1), dtype=torch.float32)


def random_predictions(n, boxes_of=K):
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(n, K + 1, generator=generator)
    deltas = torch.randn(n, boxes_of * 4, generator=generator)
    return scores.requires_grad_(), deltas.requires_grad_()


def cross_entropies(scores, classes):
    scores = scores.detach().double().numpy()
    log_sums = np.log(np.exp(scores).sum(axis=1))
    return np.array([log_sums[i] - scores[i, c] for i, c in enumerate(classes)])


def l1(deltas, rows):
    """Sum of |delta - target| over the four coordinates, for each row that is a foreground."""
    deltas = deltas.detach().double().numpy()
    losses = np.zeros(len(rows))
    source = rows.proposal_boxes.tensor.double().numpy()
    target = rows.gt_boxes.tensor.double().numpy()
    for i, c in enumerate(rows.gt_classes.tolist()):
        if c == BG:
            continue
        (x0, y0, x1, y1), (u0, v0, u1, v1) = source[i], target[i]
        w, h = x1 - x0, y1 - y0
        goal = np.array(
            [
                CODE[0] * ((u0 + u1) / 2 - (x0 + x1) / 2) / w,
                CODE[1] * ((v0 + v1) / 2 - (y0 + y1) / 2) / h,
                CODE[2] * np.log((u1 - u0) / w),
                CODE[3] * np.log((v1 - v0) / h),
            ]
        )
        mine = deltas[i] if deltas.shape[1] == 4 else deltas[i, 4 * c : 4 * c + 4]
        losses[i] = np.abs(mine - goal).sum()
    return losses


def test_the_state_dict_is_the_stock_one():
    mine, stock = layers().state_dict(), layers(FastRCNNOutputLayers).state_dict()
    assert list(mine) == list(stock)
    assert all(torch.equal(mine[k], stock[k]) for k in stock)


# classes of each image
IMAGES = {
    "one image without proposals": [[]],
    "one background": [[BG]],
    "one foreground": [[1]],
    "no foreground": [[BG] * 4],
    "no background": [[0, 1, 2, 1]],
    "8 proposals": [[0, BG, 2, BG, BG, 1, BG, BG]],
    "two images": [[0, BG, BG], [BG, 2, 1, BG, BG]],
    "two images, one empty": [[], [BG, 2, BG]],
}


@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_proposals_without_weights_give_the_stock_losses_to_the_bit(images):
    rows = [proposals(classes, seed=i) for i, classes in enumerate(images)]
    predictions = random_predictions(sum(map(len, images)))
    losses = layers().losses(predictions, rows)
    stock = layers(FastRCNNOutputLayers).losses(predictions, rows)
    assert losses.keys() == stock.keys() == {"loss_cls", "loss_box_reg"}
    assert all(torch.equal(losses[k], stock[k]) for k in stock)


@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("boxes_of", [K, 1], ids=["boxes per class", "class-agnostic boxes"])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_one_nth_everywhere_gives_the_stock_losses(images, boxes_of, loss):
    n = max(sum(map(len, images)), 1)
    rows = [
        proposals(c, [1 / n] * len(c), [1 / n if k != BG else 0 for k in c], seed=i)
        for i, c in enumerate(images)
    ]
    predictions = random_predictions(sum(map(len, images)), boxes_of)
    kwargs = {"cls_agnostic_bbox_reg": boxes_of == 1, "box_reg_loss_type": loss}
    losses = layers(**kwargs).losses(predictions, rows)
    stock = layers(FastRCNNOutputLayers, **kwargs).losses(predictions, rows)
    assert losses.keys() == stock.keys()
    for key in stock:
        torch.testing.assert_close(losses[key], stock[key], rtol=1e-6, atol=0)


def test_weights_that_are_a_power_of_two_give_the_stock_classification_loss_to_the_bit():
    classes = IMAGES["8 proposals"][0]
    rows = [proposals(classes, [1 / 8] * 8, [1 / 8] * 8)]
    predictions = random_predictions(8)
    stock = layers(FastRCNNOutputLayers).losses(predictions, rows)
    assert torch.equal(layers().losses(predictions, rows)["loss_cls"], stock["loss_cls"])


# classes, cls_weight, reg_weight of each image
WEIGHTED = {
    "one image without proposals": [([], [], [])],
    "all weights 0": [([0, BG], [0, 0], [0, 0])],
    "one foreground": [([2], [0.5], [0.25])],
    "one background": [([BG], [0.5], [0])],
    "no foreground": [([BG, BG], [0.7, 0.1], [0, 0])],
    "no background": [([1, 0], [0.2, 0.9], [2, 2])],
    "classification rows, then regression rows": [
        ([1, BG, BG, 0, 0, 1], [0.5, 0.4, 0.1, 0, 0, 0], [0, 0, 0, 0.25, 0.25, 0.25])
    ],
    "each image its own regression weight": [
        ([1, BG, 2, 0], [0.5, 0.4, 0, 0], [0, 0, 0.25, 0.25]),
        ([BG, 1], [0.3, 0.2], [0, 0]),
        ([BG, 2], [0.1, 0], [0, 3]),
    ],
}


@pytest.mark.parametrize("boxes_of", [K, 1], ids=["boxes per class", "class-agnostic boxes"])
@pytest.mark.parametrize("images", WEIGHTED.values(), ids=WEIGHTED.keys())
def test_losses_are_sums_of_weight_times_loss_in_float64(images, boxes_of):
    rows = [proposals(*image, seed=i) for i, image in enumerate(images)]
    scores, deltas = random_predictions(sum(map(len, rows)), boxes_of)
    losses = layers(cls_agnostic_bbox_reg=boxes_of == 1).losses((scores, deltas), rows)

    entropies = cross_entropies(scores, [c for classes, _, _ in images for c in classes])
    cls_weights = np.concatenate([weights for _, weights, _ in images])
    distances = [l1(d, r) for d, r in zip(deltas.split([len(r) for r in rows]), rows)]
    reg_weights = [np.array(weights) for _, _, weights in images]

    assert losses["loss_cls"].item() == pytest.approx((cls_weights * entropies).sum(), rel=1e-5)
    expected = sum((w * d).sum() for w, d in zip(reg_weights, distances))
    assert losses["loss_box_reg"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("images", WEIGHTED.values(), ids=WEIGHTED.keys())
def test_only_rows_with_a_weight_get_a_gradient(images):
    rows = [proposals(*image, seed=i) for i, image in enumerate(images)]
    scores, deltas = random_predictions(sum(map(len, rows)))
    sum(layers().losses((scores, deltas), rows).values()).backward()
    cls_weights = np.concatenate([w for _, w, _ in images])
    reg_weights = np.concatenate([w for _, _, w in images])
    np.testing.assert_array_equal((scores.grad != 0).any(dim=1), cls_weights > 0)
    np.testing.assert_array_equal((deltas.grad != 0).any(dim=1), reg_weights > 0)


def test_each_loss_is_multiplied_by_its_configured_weight():
    rows = [proposals([1, BG], [0.5, 0.4], [0.25, 0])]
    predictions = random_predictions(2)
    plain = layers().losses(predictions, rows)
    weighted = layers(loss_weight={"loss_cls": 3.0, "loss_box_reg": 5.0}).losses(predictions, rows)
    assert weighted["loss_cls"].item() == pytest.approx(3 * plain["loss_cls"].item(), rel=1e-6)
    assert weighted["loss_box_reg"].item() == pytest.approx(
        5 * plain["loss_box_reg"].item(), rel=1e-6
    )


def test_half_precision_predictions_give_float32_losses():
    rows = [proposals([1, BG], [0.5, 0.4], [0.25, 0])]
    predictions = [p.detach().to(torch.bfloat16) for p in random_predictions(2)]
    losses = layers().losses(predictions, rows)
    exact = layers().losses([p.float() for p in predictions], rows)
    assert all(losses[k].dtype == torch.float32 for k in losses)
    assert all(torch.equal(losses[k], exact[k]) for k in exact)
