"""A dense detector's pass over weak views: detections, their stability, background scores."""

import numpy as np
import pytest
import tiny_fcos  # noqa: F401  registers a family
import torch
from by_hand import iou
from detectron2.layers import batched_nms
from detectron2.modeling.meta_arch.fcos import FCOS
from steps import detections, unlabeled

from soft_teacher.modeling.families.dense.family import (
    FCOSFamily,
    RetinaNetFamily,
    _in_weak_views,
)
from soft_teacher.modeling.families.dense.predictions import predict
from soft_teacher.modeling.families.dense.teacher_pass import suppressed_variance
from soft_teacher.modeling.views import ViewTransport

THRESH = 0.5


DETECTORS = {
    **{
        f"RetinaNet, anchors at {offset} of a cell": (
            *("RetinaNet", "MODEL.ANCHOR_GENERATOR.OFFSET", offset),
        )
        for offset in (0.0, 0.5, 0.75)
    },
    "FCOS": ("TinyFCOS",),
}


@pytest.fixture(params=DETECTORS.values(), ids=DETECTORS.keys())
def teacher(build, request):
    """A network in eval mode whose maps differ from place to place."""
    network = build("SOFT_TEACHER.DETECTOR", *request.param).teacher
    with torch.no_grad():
        torch.nn.init.normal_(network.head.cls_score.weight, std=0.1)
    return network


@pytest.fixture
def family(teacher):
    return FCOSFamily() if isinstance(teacher, FCOS) else RetinaNetFamily()


# --- detections


def test_it_detects_what_the_detector_detects(teacher, family):
    views = [unlabeled(n)["weak_image"] for n in range(2)]
    views.append(unlabeled(2, size=(48, 80))["weak_image"])
    mine = family.teach(teacher, views).detections
    theirs = teacher([{"image": view} for view in views])
    for found, expected in zip(mine, theirs, strict=True):
        expected = expected["instances"]
        assert len(expected) > 5
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_predictions_in_mixed_precision_are_float32(teacher, family, dtype):
    with torch.autocast("cpu", dtype=dtype):
        found = predict(teacher, family.encode(teacher, [unlabeled()]))
    maps = (*found.logits, *found.deltas, *(found.centerness or ()))
    assert {x.dtype for x in maps} == {torch.float32}


# --- stability


def kept_of(found):
    return batched_nms(found.pred_boxes.tensor, found.scores, found.pred_classes, THRESH)


def variance_of(found, rows=None):
    kept = kept_of(found)
    rows = torch.arange(len(kept)) if rows is None else torch.tensor(rows).long()
    return suppressed_variance(found, kept, rows, THRESH).tolist()


A, B = [10, 10, 50, 30], [12, 10, 54, 30]


@pytest.mark.parametrize(
    "boxes, classes, expected",
    [
        ([], [], []),
        ([A], [0], [np.inf]),
        ([A, A], [0, 0], [0.0]),
        # Standard deviations of 2 and 4 pixels, by sqrt(2), and of none; sides of 40 and 20.
        ([A, B], [0, 0], [(2 + 4) / np.sqrt(2) / 4 / 30]),
        ([A, B], [0, 1], [np.inf, np.inf]),
        ([A, [60, 60, 90, 90]], [0, 0], [np.inf, np.inf]),
        ([[10, 10, 10, 10], [10, 10, 10, 10]], [0, 0], [np.inf, np.inf]),
    ],
    ids=["none", "alone", "twice", "two", "of two classes", "apart", "without extent"],
)
def test_variance_of_one_or_two_boxes(boxes, classes, expected):
    found = detections(boxes, classes, [0.9, 0.8][: len(boxes)])
    assert variance_of(found) == pytest.approx(expected, rel=1e-6)


def test_the_requested_rows_are_measured_in_their_order():
    found = detections([A, A, B, [60, 60, 90, 90]], [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6])
    assert len(kept_of(found)) == 2
    assert variance_of(found, [1, 0]) == variance_of(found)[::-1]
    assert variance_of(found, []) == []


def by_hand(found):
    """Greedy NMS in float64 that records what each kept box suppressed."""
    boxes = found.pred_boxes.tensor.double().numpy()
    classes, scores = found.pred_classes.numpy(), found.scores.numpy()

    groups = {}
    for row in np.argsort(-scores, kind="stable"):
        owners = (
            k for k in groups if classes[k] == classes[row] and iou(boxes[k], boxes[row]) > THRESH
        )
        groups.setdefault(next(owners, row), []).append(row)
    sigmas = [
        boxes[g].std(axis=0, ddof=1) if len(g) > 1 else np.full(4, np.inf) for g in groups.values()
    ]
    halves = [(boxes[k, 2:] - boxes[k, :2]).mean() for k in groups]
    return [sigma.mean() / half for sigma, half in zip(sigmas, halves)]


def test_variance_of_many_boxes():
    rng = np.random.default_rng(0)
    centers = rng.uniform(20, 80, (4, 2)).repeat(30, axis=0) + rng.normal(0, 6, (120, 2))
    sides = rng.uniform(20, 40, (120, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    found = detections(boxes, rng.integers(0, 2, 120), rng.uniform(0, 1, 120))
    expected = by_hand(found)
    assert len(expected) > 10 and any(map(np.isinf, expected)) and not all(map(np.isinf, expected))
    assert variance_of(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("key", range(3))
def test_by_centerness_the_variance_is_what_the_place_of_a_box_lacks_of_it(build, key):
    network, family = build("SOFT_TEACHER.DETECTOR", "TinyFCOS").teacher, FCOSFamily
    with torch.no_grad():
        for layer in (network.head.cls_score, network.head.ctrness):
            torch.nn.init.normal_(layer.weight, std=0.02)
    views = [unlabeled(key)["weak_image"], unlabeled(key + 3, size=(48, 80))["weak_image"]]
    seen = family(stability="centerness").teach(network, views)
    rows = [torch.arange(len(d)).flip(0)[::2] for d in seen.detections]
    measured = seen.variances(rows, [0, 0])
    found = predict(network, family().encode(network, [{"image": view} for view in views]))
    for image, detections_, r, values in zip(range(2), seen.detections, rows, measured):
        assert len(r) > 2
        scores = torch.cat([x[image] for x in found.scores()])
        centerness = torch.cat([x[image] for x in found.centerness])[:, 0].sigmoid()
        for row, value in zip(r.tolist(), values.tolist()):
            label, score = detections_.pred_classes[row], detections_.scores[row]
            (place,) = torch.nonzero(scores[:, label] == score)[:, 0].tolist()
            assert value == pytest.approx(1 - centerness[place].item(), abs=1e-6)


# --- background


def background_by_hand(teacher, view, points, scale):
    """1 - the highest probability at the place that is nearest to each point on each level.

    Args:
        points: per level, (n, 2).
        scale: of the strong view to the weak one.
    """
    features = teacher.backbone(teacher.preprocess_image([{"image": view}]).tensor)
    maps = teacher.head([features[f] for f in teacher.head_in_features])[0]
    strides, offset = np.array(teacher.anchor_generator.strides), teacher.anchor_generator.offset
    result = []
    for level, own in enumerate(points):
        best = np.abs(np.log(strides * scale / strides[level])).argmin()
        probability = maps[best][0].double().sigmoid().amax(dim=0).numpy()
        height, width = probability.shape
        for x, y in own:
            column = np.clip(np.rint(x / strides[best] - offset), 0, width - 1)
            row = np.clip(np.rint(y / strides[best] - offset), 0, height - 1)
            result.append(1 - probability[int(row), int(column)])
    return result


@torch.no_grad()
def scored(teacher, family, sample):
    """The family's background scores of the anchors, with the anchors."""
    transport = ViewTransport.of([sample], torch.device("cpu"))
    found = predict(teacher, family.encode(teacher, [sample]))
    seen = family.teach(teacher, [sample["weak_image"]])
    return seen.background_scores(*_in_weak_views(teacher, found, transport))[0], found.anchors


RESIZED = [(np.diag([s, s, 1.0]), (int(64 * s), int(96 * s))) for s in (0.25, 0.5, 2.0, 4.0)]


def assert_scored_by_hand(teacher, family, matrix, size):
    sample = unlabeled(0, matrix, size=size, weak_size=(64, 96))
    r, anchors = scored(teacher, family, sample)
    back = np.linalg.inv(matrix)
    points = []
    for level in anchors:
        x, y = level.get_centers().double().numpy().T
        x, y, _ = back @ np.stack([x, y, np.ones_like(x)])
        points.append(np.stack([x.clip(0, 96), y.clip(0, 64)], axis=1))
    scale = np.sqrt(np.abs(np.linalg.det(matrix)))
    with torch.no_grad():
        expected = background_by_hand(teacher, sample["weak_image"], points, scale)
    assert np.std(expected) > 0.1 and len(expected) == len(r)
    # A point that lies half-way between two places belongs to either.
    apart = np.abs(r.numpy() - expected) > 1e-5
    assert apart.mean() < 0.02


def test_background_under_every_change_of_view(teacher, family, view_change):
    assert_scored_by_hand(teacher, family, *view_change)


@pytest.mark.parametrize("matrix, size", RESIZED)
def test_background_of_an_enlarged_view_is_scored_on_a_finer_level(teacher, family, matrix, size):
    assert_scored_by_hand(teacher, family, matrix, size)


def test_in_the_same_view_an_anchor_is_scored_in_its_place(teacher, family):
    sample = unlabeled(0)
    sample["weak_image"] = sample["image"]
    r, _ = scored(teacher, family, sample)
    with torch.no_grad():
        logits = torch.cat(predict(teacher, family.encode(teacher, [sample])).logits, 1)
    (per_place,) = teacher.anchor_generator.num_anchors[:1]
    highest = logits[0].sigmoid().reshape(-1, per_place * logits.shape[-1]).amax(dim=1)
    np.testing.assert_allclose(r, 1 - highest.repeat_interleave(per_place), atol=1e-6)
