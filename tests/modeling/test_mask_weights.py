"""How pixels of pseudo masks are weighted, against loops in float64 and Detectron2's mask loss."""

import numpy as np
import pytest
import torch
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_loss
from detectron2.structures import BitMasks, Instances
from mask_shapes import SIDE, blobs
from steps import boxes_of

from soft_teacher.modeling.mask_weights import (
    is_certain,
    mask_weights,
    predicted_quality,
    weighted_mask_loss,
)


def masks(*rows):
    """(n, 1, m) probabilities."""
    return torch.tensor(rows, dtype=torch.float32).view(len(rows), 1, -1 if rows else 4)


@pytest.mark.parametrize(
    "probabilities, expected",
    [
        (masks(), []),
        (masks([0, 0.2, 0.49, 0.1]), [0]),
        (masks([0.5, 0.7, 0.9, 0.1]), [0.7]),
        (masks([1, 1, 1, 1], [0.6, 0, 0, 0.8]), [1, 0.7]),
    ],
)
def test_quality_is_the_mean_probability_of_the_foreground(probabilities, expected):
    found = predicted_quality(probabilities)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "margin, expected",
    [
        (0.0, [True] * 6),
        (0.1, [True, True, False, False, False, True]),
        (0.4, [True, False, False, False, False, True]),
    ],
)
def test_pixels_within_the_margin_of_a_half_are_uncertain(margin, expected):
    probabilities = masks([0, 0.375, 0.4375, 0.5, 0.5625, 1.0])
    assert is_certain(probabilities, margin).flatten().tolist() == expected
    assert is_certain(masks(), margin).shape == (0, 1, 4)


# Positives of each image.
IMAGES = {
    "nothing found": [0, 0],
    "one mask": [1],
    "one image without": [2, 0, 3],
}


def scene(counts, seed=0):
    """Per image: logits, targets, certain pixels and qualities, in float64."""
    rng = np.random.default_rng(seed)
    return [
        (
            rng.normal(0, 3, (n, 5, 5)),
            rng.uniform(0, 1, (n, 5, 5)),
            rng.uniform(0, 1, (n, 5, 5)) < 0.7,
            rng.uniform(0, 1, n),
        )
        for n in counts
    ]


def by_hand(images, average) -> float:
    sums, counts = [], []
    for logits, targets, certain, quality in images:
        p = 1 / (1 + np.exp(-logits))
        losses = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
        sums.append(sum(q * m[c].sum() for q, m, c in zip(quality, losses, certain)))
        counts.append(certain.sum())
    if average == "gpu":
        return sum(sums) / max(sum(counts), 1)
    return sum(s / max(n, 1) for s, n in zip(sums, counts)) / max(len(images), 1)


@pytest.mark.parametrize("average", ["image", "gpu"])
@pytest.mark.parametrize("counts", IMAGES.values(), ids=IMAGES.keys())
def test_the_loss_is_a_mean_over_certain_pixels_weighted_by_quality(counts, average):
    images = scene(counts)
    logits, targets, certain, quality = (list(map(torch.tensor, part)) for part in zip(*images))
    weights = mask_weights(certain, quality, average)
    assert [w.shape for w in weights] == [m.shape for m in logits]
    logits, targets, weights = map(torch.cat, (logits, targets, weights))
    logits.requires_grad_()
    loss = weighted_mask_loss(logits, targets, weights)
    loss.backward()
    assert loss.item() == pytest.approx(by_hand(images, average), rel=1e-5)
    assert logits.grad.shape == logits.shape and logits.grad.isfinite().all()


def test_uncertain_pixels_have_no_gradient_and_without_any_other_the_loss_is_zero():
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    certain = torch.tensor([[[True, False, True]], [[False] * 3]])
    weights = torch.cat(mask_weights([certain[:1], certain[1:]], [torch.ones(1)] * 2, "image"))
    weighted_mask_loss(logits, torch.ones(2, 1, 3), weights).backward()
    assert torch.equal(logits.grad != 0, certain)
    (none,) = mask_weights([certain[1:]], [torch.ones(1)], "image")
    assert weighted_mask_loss(logits[1:], torch.ones(1, 1, 3), none) == 0


@pytest.mark.parametrize("counts", [[1], [3, 2]], ids=str)
def test_with_unit_weights_over_the_gpu_it_is_detectron2_s(counts, storage):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(sum(counts), 4, SIDE, SIDE, generator=generator)
    images, targets = [], []
    for seed, n in enumerate(counts):
        found = Instances((SIDE, SIDE), proposal_boxes=boxes_of([[0, 0, SIDE, SIDE]] * n))
        found.gt_classes = torch.arange(n) % 4
        found.gt_masks = BitMasks(blobs(n, seed) > 0.5)
        images.append(found)
        targets.append(found.gt_masks.crop_and_resize(found.proposal_boxes.tensor, SIDE))
    weights = mask_weights(
        [torch.ones_like(t) for t in targets], list(map(torch.ones, counts)), "gpu"
    )
    classes = torch.cat([found.gt_classes for found in images])
    mine = weighted_mask_loss(
        logits[torch.arange(len(classes)), classes], torch.cat(targets), torch.cat(weights)
    )
    assert mine.item() == pytest.approx(mask_rcnn_loss(logits, images).item(), rel=1e-6)
