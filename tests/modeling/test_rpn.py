"""An RPN whose backgrounds on ignored boxes have no loss, and which else is Detectron2's."""

import numpy as np
import pytest
import torch
from by_hand import iou
from detectron2.modeling import build_backbone
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import ImageList
from steps import BOXES, CLASSES, SIZE, boxes_of, targets

from soft_teacher.modeling import SoftTeacherRPN

IMAGES = 2
GROUND_TRUTH = [(BOXES[:1], CLASSES[:1]), ([], [])]


@pytest.fixture
def build_rpn(tiny_cfg):
    def build_rpn(kind, samples=16):
        cfg = tiny_cfg.clone()
        cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = samples
        shapes = build_backbone(cfg).output_shape()
        torch.manual_seed(0)
        return kind(cfg, {name: shapes[name] for name in cfg.MODEL.RPN.IN_FEATURES}).train()

    return build_rpn


@pytest.fixture
def features(tiny_cfg):
    torch.manual_seed(1)
    images = torch.randn(IMAGES, 3, *SIZE)
    found = build_backbone(tiny_cfg)(images)
    return {name: level.detach().requires_grad_() for name, level in found.items()}


def labels_of(rpn, features, seed=0):
    """(anchors, labels per image)"""
    anchors = rpn.anchor_generator([features[f] for f in rpn.in_features])
    torch.manual_seed(seed)
    labels, _ = rpn.label_and_sample_anchors(anchors, [targets(*g) for g in GROUND_TRUTH])
    return torch.cat([a.tensor for a in anchors]), labels


def losses_of(rpn, features, ground_truth=GROUND_TRUTH):
    images = ImageList(torch.zeros(IMAGES, 3, *SIZE), [SIZE] * IMAGES)
    torch.manual_seed(0)
    return rpn(images, features, [targets(*g) for g in ground_truth])


# Per image, ignored boxes.
NOTHING = [[], []]
IGNORED = {
    "nothing in either image": NOTHING,
    "in the first": [[BOXES[1]], []],
    "in the second": [[], [BOXES[1], BOXES[2]]],
    "in both": [[BOXES[1], BOXES[3]], [BOXES[0]]],
    "the ground truth": [[BOXES[0]], []],
    "the whole image": [[[0, 0, 96, 64]], [[0, 0, 96, 64]]],
    "boxes without extent": [[[5, 5, 5, 5]], [[9, 5, 20, 5]]],
}
WITH_ANCHORS = {"in the first", "in the second", "in both", "the whole image"}


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("samples", [16, 4096], ids=["sampled", "all anchors"])
def test_sampled_backgrounds_that_overlap_an_ignored_box_are_left_out(
    build_rpn, features, name, samples
):
    """By 0.3 or more, the IoU below which an anchor is a background of that box."""
    rpn, ignored = build_rpn(SoftTeacherRPN, samples), IGNORED[name]
    anchors, plain = labels_of(rpn, features)
    with rpn.ignoring([boxes_of(boxes) for boxes in ignored]):
        _, found = labels_of(rpn, features)
    changed = 0
    for boxes, before, after in zip(ignored, plain, found, strict=True):
        for anchor, old, new in zip(anchors.tolist(), before.tolist(), after.tolist()):
            overlaps = [iou(anchor, box) for box in boxes]
            on_one = old == 0 and max(overlaps, default=0) >= 0.3
            assert new == (-1 if on_one else old)
            changed += on_one
    if samples == 4096:
        assert (changed > 0) == (name in WITH_ANCHORS)


def test_an_overlap_of_exactly_the_threshold_is_too_large(build_rpn, features):
    rpn = build_rpn(SoftTeacherRPN, 4096)
    anchors, (_, plain) = labels_of(rpn, features)
    anchor = anchors[plain == 0][0]
    x0, y0, x1, y1 = anchor.tolist()
    rpn.anchor_matcher.thresholds[1] = 0.5  # of which halves of a box have no rounding
    for height, left_out in (((y1 - y0) / 2, True), ((y1 - y0) * 0.49, False)):
        with rpn.ignoring([boxes_of([]), boxes_of([[x0, y0, x1, y0 + height]])]):
            _, (_, found) = labels_of(rpn, features)
        assert (found[plain == 0][0] == -1) == left_out


def gradients(rpn, features, losses):
    wanted = [*rpn.parameters(), *features.values()]
    return torch.autograd.grad(sum(losses.values()), wanted, allow_unused=True)


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert a is b is None or torch.equal(a, b)


@pytest.mark.parametrize("ignored", [None, NOTHING], ids=["no block", "no boxes"])
def test_without_ignored_boxes_it_is_detectron2_s_to_the_bit(build_rpn, features, ignored):
    stock, rpn = build_rpn(RPN), build_rpn(SoftTeacherRPN)
    expected, losses = losses_of(stock, features)
    if ignored is None:
        found, mine = losses_of(rpn, features)
    else:
        with rpn.ignoring([boxes_of(boxes) for boxes in ignored]):
            found, mine = losses_of(rpn, features)
    assert mine.keys() == losses.keys() and all(torch.equal(mine[k], losses[k]) for k in losses)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.proposal_boxes.tensor, b.proposal_boxes.tensor)
    assert_equal(gradients(rpn, features, mine), gradients(stock, features, losses))


def test_its_state_is_detectron2_s(build_rpn):
    stock, rpn = (build_rpn(kind).state_dict() for kind in (RPN, SoftTeacherRPN))
    assert list(rpn) == list(stock) and all(torch.equal(rpn[k], stock[k]) for k in stock)


def test_ignored_anchors_have_no_loss_and_no_gradient_and_the_others_what_they_had(
    build_rpn, features
):
    """The normalizer is the number of samples, whether they are ignored or not."""
    rpn = build_rpn(SoftTeacherRPN, 4096)
    ignored = [[BOXES[1]], [BOXES[0]]]
    boxes = [boxes_of(b) for b in ignored]
    _, plain = labels_of(rpn, features)
    with rpn.ignoring(boxes):
        _, labels = labels_of(rpn, features)
        seen = {}
        head = rpn.rpn_head.forward

        def watched(levels):
            scores, deltas = head(levels)
            for score in scores:
                score.retain_grad()
            seen["scores"] = scores
            return scores, deltas

        rpn.rpn_head.forward = watched
        _, losses = losses_of(rpn, features)
    losses["loss_rpn_cls"].backward()

    def flat(levels):  # (images, anchors), as Detectron2 orders them
        return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in levels], dim=1)

    scores = flat(seen["scores"]).detach().double()
    gradient = flat([x.grad for x in seen["scores"]])
    labels, plain = torch.stack(labels), torch.stack(plain)
    left_out = (plain == 0) & (labels == -1)
    assert left_out.sum() > 0 and (gradient[left_out] == 0).all()
    normalizer = IMAGES * 4096
    p = 1 / (1 + np.exp(-scores.numpy()))
    expected = np.where(labels >= 0, p - labels.clamp(min=0).numpy(), 0) / normalizer
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-9)


def test_after_an_error_nothing_is_ignored(build_rpn, features):
    rpn = build_rpn(SoftTeacherRPN, 4096)
    _, plain = labels_of(rpn, features)
    with pytest.raises(ValueError), rpn.ignoring([boxes_of([[0, 0, 96, 64]])] * 2):
        raise ValueError
    assert all(map(torch.equal, labels_of(rpn, features)[1], plain))
