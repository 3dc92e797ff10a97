"""Losses with a coefficient per proposal, against Detectron2's and against float64 numbers."""

import numpy as np
import pytest
import torch
from by_hand import BG, CODE, K
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from steps import boxes_of

from soft_teacher.modeling import SoftFastRCNNOutputLayers


def layers(cls=SoftFastRCNNOutputLayers, **kwargs):
    torch.manual_seed(0)
    transform = Box2BoxTransform(weights=CODE.tolist())
    return cls(ShapeSpec(channels=4), box2box_transform=transform, num_classes=K, **kwargs)


def proposals(classes, cls_weight=None, reg_weight=None, seed=0):
    rng = np.random.default_rng(seed)
    boxes, goals = (random_boxes(rng, len(classes)) for _ in range(2))
    result = Instances((100, 100), proposal_boxes=boxes, gt_boxes=goals)
    result.gt_classes = torch.tensor(classes, dtype=torch.int64)
    if cls_weight is not None:
        result.cls_weight = torch.tensor(cls_weight, dtype=torch.float32)
        result.reg_weight = torch.tensor(reg_weight, dtype=torch.float32)
    return result


def random_boxes(rng, n):
    corner, side = rng.uniform(0, 50, (n, 2)), rng.uniform(5, 50, (n, 2))
    return boxes_of(np.concatenate([corner, corner + side], axis=1))


def random_predictions(n, boxes_per_row=K):
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(n, K + 1, generator=generator)
    deltas = torch.randn(n, boxes_per_row * 4, generator=generator)
    return scores.requires_grad_(), deltas.requires_grad_()


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


@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
@pytest.mark.parametrize("boxes_per_row", [K, 1], ids=["boxes per class", "class-agnostic boxes"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES.keys())
def test_without_weights_or_with_one_nth_everywhere_losses_are_detectron2_s(
    images, weighted, boxes_per_row, loss
):
    n = max(sum(map(len, images)), 1)
    weights = [([1 / n] * len(c), [(k != BG) / n for k in c]) if weighted else () for c in images]
    rows = [proposals(c, *w, seed=i) for i, (c, w) in enumerate(zip(images, weights))]
    predictions = random_predictions(sum(map(len, images)), boxes_per_row)
    kwargs = {"cls_agnostic_bbox_reg": boxes_per_row == 1, "box_reg_loss_type": loss}
    losses = layers(**kwargs).losses(predictions, rows)
    stock = layers(FastRCNNOutputLayers, **kwargs).losses(predictions, rows)
    assert losses.keys() == stock.keys() == {"loss_cls", "loss_box_reg"}
    for key in stock:  # to the bit without weights
        torch.testing.assert_close(losses[key], stock[key], rtol=1e-6 * weighted, atol=0)


def test_each_loss_is_multiplied_by_its_configured_weight():
    rows, predictions = [proposals([1, BG], [0.5, 0.4], [0.25, 0])], random_predictions(2)
    plain = layers().losses(predictions, rows)
    factors = {"loss_cls": 3.0, "loss_box_reg": 5.0}
    weighted = layers(loss_weight=factors).losses(predictions, rows)
    for key, factor in factors.items():
        assert weighted[key].item() == pytest.approx(factor * plain[key].item(), rel=1e-6)


def test_half_precision_predictions_give_float32_losses():
    rows = [proposals([1, BG], [0.5, 0.4], [0.25, 0])]
    predictions = [p.detach().to(torch.bfloat16) for p in random_predictions(2)]
    losses = layers().losses(predictions, rows)
    exact = layers().losses([p.float() for p in predictions], rows)
    assert all(losses[k].dtype == torch.float32 for k in losses)
    assert all(torch.equal(losses[k], exact[k]) for k in exact)
