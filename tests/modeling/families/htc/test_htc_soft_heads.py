"""Losses of unlabeled images in HTC's heads, held to its own losses of labeled images."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances
from htc import htc_heads, random_features
from mask_shapes import blobs
from steps import boxes_of

from soft_teacher.modeling import PseudoLabels, PseudoMasks, SoftTeacherHTCROIHeads
from soft_teacher.modeling.mask_transport import TransportedMasks

CHANNELS, K, SIZE = 8, 6, (64, 96)
STAGES = range(3)
# Every box is a sample, and each counts the same, as for labeled images.
EXHAUSTIVE = {"samples": 10**6, "positives": 1.0}
PLAIN = {"indicator": "none", "average": "gpu", "reg_normalizer": "samples"}
OBJECTS = [([6.3, 8.1, 44.7, 50.2], 0), ([36.4, 20.8, 88.1, 60.6], 5), ([4.9, 30.2, 30.7, 60.3], 2)]


def heads_of(**kwargs):
    """In training mode. Weights are large enough for every branch to matter."""
    torch.manual_seed(0)
    settings = {"channels": CHANNELS, "num_classes": K, "fc_dim": 16, **EXHAUSTIVE, **PLAIN}
    settings["pseudo_masks"] = PseudoMasks(enabled=True)
    heads = htc_heads(cls=SoftTeacherHTCROIHeads, **{**settings, **kwargs}).train()
    for predictor in heads.box_predictor:
        torch.nn.init.normal_(predictor.cls_score.weight, std=0.5)
        torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.2)
    return heads


def goals(*rows):
    """Some of the objects, whose masks are their boxes without a corner."""
    boxes, classes = zip(*(OBJECTS[row] for row in rows)) if rows else ((), ())
    found = Instances(SIZE, gt_boxes=boxes_of(boxes), gt_classes=torch.tensor(classes).long())
    masks = torch.zeros(len(rows), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, found.gt_boxes.tensor.int().tolist()):
        mask[y0:y1, x0:x1] = True
        mask[y0 : y0 + 9, x0 : x0 + 14] = False
    found.gt_masks = BitMasks(masks)
    return found


def with_transported_masks(targets):
    """The same objects, whose masks are those of a teacher that saw the same view."""
    found = targets[:]
    boxes = targets.gt_boxes.tensor
    found.gt_masks = TransportedMasks(blobs(len(targets)), boxes, torch.eye(3))
    return found


def proposals(images=1, n=16):
    """Boxes around the objects; one beyond the image, which clipping empties."""
    rng = np.random.default_rng(0)
    centers = np.array([box for box, _ in OBJECTS])
    found = []
    for _ in range(images):
        boxes = centers[rng.integers(len(centers), size=n)] + rng.normal(0, 4, (n, 4))
        boxes[0] = [110.5, 20, 130, 40.5]
        found.append(Instances(SIZE, proposal_boxes=boxes_of(boxes)))
    return found


def losses_of_labeled(heads, features, targets):
    with heads.semantic_maps([None] * len(targets)):
        return heads(None, features, proposals(len(targets)), targets)[1]


def unasked(boxes, *, stage):
    raise AssertionError("no teacher is needed")


def pseudo_losses(heads, features, g_cls, g_reg, score=unasked):
    pseudo = PseudoLabels(g_cls, g_reg)
    return heads.pseudo_losses(features, proposals(len(g_cls)), pseudo, score)


SCENES = {
    "nothing": ([()], [()]),
    "the same": ([(0, 1, 2)], [(0, 1, 2)]),
    "fewer stable boxes": ([(0, 1, 2)], [(1,)]),
    "other boxes": ([(0,)], [(1, 2)]),
    "no stable box": ([(0, 1)], [()]),
    "stable boxes alone": ([()], [(2,)]),
    "two images": ([(0, 1), (2,)], [(1,), (0, 2)]),
}
every_scene = pytest.mark.parametrize("g_cls, g_reg", SCENES.values(), ids=SCENES)


@every_scene
@pytest.mark.parametrize("targets", ["regression", "classification"])
@pytest.mark.parametrize("semantic_classes", [0, 11])
def test_losses_are_those_of_labeled_images_with_these_boxes(
    g_cls, g_reg, targets, semantic_classes
):
    masks = PseudoMasks(enabled=True, targets=targets)
    heads = heads_of(pseudo_masks=masks, semantic_classes=semantic_classes)
    features = random_features(CHANNELS, len(g_cls), SIZE)
    g_cls, g_reg = ([goals(*rows) for rows in images] for images in (g_cls, g_reg))
    found, r = pseudo_losses(heads, features, g_cls, g_reg)
    of_cls, of_reg = (losses_of_labeled(heads, features, g) for g in (g_cls, g_reg))
    assert r is None and tuple(found) == heads.pseudo_loss_names
    for stage in STAGES:
        goal = {
            "loss_cls": of_cls,
            "loss_box_reg": of_reg,
            "loss_mask": of_reg if targets == "regression" else of_cls,
        }
        for name, losses in goal.items():
            name = f"{name}_stage{stage}"
            torch.testing.assert_close(found[name], losses[name], rtol=1e-5, atol=1e-6, msg=name)


def test_gradients_are_those_of_labeled_images_too():
    heads, features = heads_of(), random_features(CHANNELS, 1, SIZE)
    everything = [goals(0, 1, 2)]
    losses = losses_of_labeled(heads, features, everything)
    del losses["loss_sem_seg"]
    parameters = {n: p for n, p in heads.named_parameters() if "semantic_head.predictor" not in n}
    expected = torch.autograd.grad(sum(losses.values()), list(parameters.values()))
    found, _ = pseudo_losses(heads, features, everything, everything)
    gradients = torch.autograd.grad(sum(found.values()), list(parameters.values()))
    for name, one, other in zip(parameters, gradients, expected):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-7, name


def test_backgrounds_count_as_the_teacher_scores_them_at_their_stage(storage):
    heads = heads_of(indicator="bg_teacher")
    features = random_features(CHANNELS, 1, SIZE)
    asked = []

    def score(boxes, *, stage):
        asked.append((stage, [len(b) for b in boxes]))
        return [torch.full((len(b),), 0.25 * (stage + 1)) for b in boxes]

    found, r = pseudo_losses(heads, features, [goals(0)], [goals(1)], score)
    assert asked == [(stage, [16 + 1]) for stage in STAGES]
    assert 0.25 < r < 0.75
    alike, _ = pseudo_losses(
        heads, features, [goals(0)], [goals(1)], lambda b, stage: [torch.ones(len(x)) for x in b]
    )
    for stage in STAGES:  # Eq. 4 and 5 normalize r, so that equal ones do not matter
        name = f"loss_cls_stage{stage}"
        torch.testing.assert_close(found[name], alike[name])
    names = storage.latest()
    for stage, scope in itertools.product(STAGES, ("unsup", "unsup/reg")):
        assert names[f"{scope}/stage{stage}/roi_head/num_fg_samples"][0] >= 1


def test_images_count_the_same_whatever_is_in_them():
    heads = heads_of(average="image", reg_normalizer="foreground")
    features = random_features(CHANNELS, 2, SIZE)
    g_cls, g_reg = [[0, 1], [2]], [[1], [0, 2]]
    g_cls, g_reg = ([with_transported_masks(goals(*x)) for x in g] for g in (g_cls, g_reg))
    both, _ = pseudo_losses(heads, features, g_cls, g_reg)
    found = proposals(2)
    alone = [
        heads.pseudo_losses(
            {name: x[n : n + 1] for name, x in features.items()},
            found[n : n + 1],
            PseudoLabels(g_cls[n : n + 1], g_reg[n : n + 1]),
            unasked,
        )[0]
        for n in range(2)
    ]
    for name, loss in both.items():
        torch.testing.assert_close(loss, sum(x[name] for x in alone) / 2, rtol=1e-5, atol=1e-6)


def test_masks_can_be_left_to_labeled_images():
    heads = heads_of(pseudo_masks=PseudoMasks(enabled=False))
    features = random_features(CHANNELS, 1, SIZE)
    found, _ = pseudo_losses(heads, features, [goals(0)], [goals(0)])
    assert tuple(found) == heads.pseudo_loss_names
    assert not any("mask" in name for name in found)
    assert "loss_mask_stage2" in losses_of_labeled(heads, features, [goals(0)])
