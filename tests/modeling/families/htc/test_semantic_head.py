"""The fused semantic head and its loss, against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from htc import pooler, random_features, semantic_head
from torch.nn import functional as F
from torchvision.ops import roi_align

from soft_teacher.modeling.families.htc import FusedSemanticHead, SemanticPooler

IGNORED = 255
CLASSES = 3


def head_of(**kwargs):
    settings = {"in_features": ["p3", "p4"], "fused_at": "p3", "stride": 8, "channels": 4}
    return FusedSemanticHead(**{**settings, "num_classes": CLASSES, "num_convs": 1, **kwargs})


def by_hand(logits, maps, weight=0.2):
    """Pixel by pixel in float64, divided by all pixels of the logits."""
    total = 0.0
    for image, labels in zip(np.float64(logits.detach()), maps):
        for i, j in np.ndindex(*image.shape[1:]):
            if labels is None or 8 * i >= labels.shape[0] or 8 * j >= labels.shape[1]:
                continue
            label = labels[8 * i, 8 * j]
            if label != IGNORED:
                total += np.log(np.exp(image[:, i, j]).sum()) - image[label, i, j]
    return weight * total / (len(maps) * logits[0, 0].numel())


def random_map(seed, size):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, size, generator=g)
    return labels.masked_fill(torch.rand(size, generator=g) < 0.3, IGNORED)


MAPS = {
    "no map": [None],
    "all ignored": [torch.full((32, 40), IGNORED)],
    "whole": [random_map(0, (32, 40))],
    "odd size": [random_map(1, (27, 33))],
    "smaller than the batch": [random_map(2, (16, 9)), random_map(3, (32, 40))],
    "one of two": [random_map(4, (31, 40)), None],
}


@pytest.mark.parametrize("maps", MAPS.values(), ids=MAPS.keys())
def test_the_loss_is_a_mean_over_all_pixels(maps):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(len(maps), CLASSES, 4, 5, generator=g).requires_grad_()
    loss = head_of().loss(logits, maps)
    assert loss.item() == pytest.approx(by_hand(logits, maps), rel=1e-6, abs=0)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_the_loss_is_weighted():
    logits, maps = torch.randn(1, CLASSES, 4, 5), [random_map(0, (32, 40))]
    losses = [head_of(loss_weight=w).loss(logits, maps).item() for w in (0.2, 1.0)]
    assert losses[1] == pytest.approx(5 * losses[0])


def test_one_batch_is_the_mean_of_its_images():
    logits, maps = torch.randn(3, CLASSES, 4, 5), [
        random_map(0, (32, 40)),
        None,
        random_map(1, (9, 9)),
    ]
    together = head_of().loss(logits, maps)
    alone = [head_of().loss(logits[i : i + 1], maps[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, sum(alone) / 3)


def test_levels_are_resized_convolved_and_summed():
    torch.manual_seed(0)
    head, features = head_of().double(), random_features(4, 2, (64, 96))
    features = {name: x.double() for name, x in features.items()}
    embedding, logits = head(features)

    def conv(layer, x, padding):
        return F.conv2d(x, layer.weight, layer.bias, padding=padding)

    p4 = F.interpolate(features["p4"], (8, 12), mode="bilinear", align_corners=True)
    laterals = head.lateral_convs
    x = conv(laterals[0], features["p3"], 0).relu() + conv(laterals[1], p4, 0).relu()
    x = conv(head.convs[0], x, 1).relu()
    torch.testing.assert_close(embedding, conv(head.embedding, x, 0).relu())
    torch.testing.assert_close(logits, conv(head.predictor, x, 0))


def test_gradients_are_finite_differences():
    torch.manual_seed(0)
    head = semantic_head(4, CLASSES).double()
    features = {k: x.double() for k, x in random_features(4, 1, (64, 64)).items()}
    maps = [random_map(0, (61, 64))]

    def loss():
        return head.loss(head(features)[1], maps)

    learning = {n: p for n, p in head.named_parameters() if not n.startswith("embedding")}
    grads = torch.autograd.grad(loss(), learning.values())
    g = torch.Generator().manual_seed(1)
    for parameter, grad in zip(learning.values(), grads):
        direction = torch.randn(parameter.shape, generator=g).double()
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                parameter += sign * 1e-6 * direction
                values.append(loss().item())
            parameter += 1e-6 * direction
        expected = (values[0] - values[1]) / 2e-6
        assert (grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("size", [7, 14])
@pytest.mark.parametrize("count", [0, 3])
def test_roi_features_of_the_embedding_are_added_to_those_of_the_levels(size, count):
    features = random_features(4, 1, (64, 96))
    levels = [features[name] for name in ("p2", "p3", "p4", "p5")]
    embedding = torch.rand(1, 4, 8, 12)
    rows = torch.tensor([[3.0, 5, 40, 50], [0, 0, 96, 64], [10.5, 2, 12, 60]])[:count]
    fused = SemanticPooler(pooler(size), ROIPooler(14, (1 / 8,), 0, "ROIAlignV2"))
    found = fused([*levels, embedding], [Boxes(rows)])
    added = roi_align(embedding, [rows], 14, 1 / 8, 0, True)
    if size == 7:
        added = F.avg_pool2d(added, 2)
    assert found.shape == (count, 4, size, size)
    torch.testing.assert_close(found, pooler(size)(levels, [Boxes(rows)]) + added)
