"""Soft-NMS against mmcv's results, against float64 numbers and in a predictor.

``soft_nms.npz`` holds what mmcv 2.1.0 returned in float32 for clusters of boxes, for ties and for
nothing, and a float64 version of it that takes the lowest row on ties.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Instances
from steps import boxes_of, labeled

from soft_teacher import ConfigError
from soft_teacher.modeling import SoftFastRCNNOutputLayers
from soft_teacher.modeling.families.rcnn.soft_nms import soft_nms

ARRAYS = np.load(Path(__file__).with_name("soft_nms.npz"))
SETTINGS = {
    "linear_t05": {"method": "linear", "iou_threshold": 0.5, "min_score": 0.001},
    "linear_t03": {"method": "linear", "iou_threshold": 0.3, "min_score": 0.001},
    "linear_t05_m05": {"method": "linear", "iou_threshold": 0.5, "min_score": 0.05},
    "gaussian_s05": {"method": "gaussian", "sigma": 0.5, "min_score": 0.001},
    "gaussian_s02_m05": {"method": "gaussian", "sigma": 0.2, "min_score": 0.05},
}
K = 3


def case(number):
    names = ("boxes", "scores", "classes")
    return [torch.as_tensor(ARRAYS[f"case{number}/{name}"]) for name in names]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("per_class", [False, True])
def test_nothing_stays_nothing(setting, per_class):
    boxes, scores, classes = case(3)
    keep, lowered = soft_nms(boxes, scores, classes * per_class, **SETTINGS[setting])
    assert keep.shape == lowered.shape == (0,) and keep.dtype == torch.int64


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("number", [1, 2], ids=["clusters", "ties"])
@pytest.mark.parametrize("per_class", [False, True])
def test_it_is_mmcv_s(number, setting, per_class):
    boxes, scores, classes = case(number)
    prefix = f"case{number}/{setting}/" + "by_class_" * per_class
    keep, lowered = soft_nms(boxes, scores, classes * per_class, **SETTINGS[setting])
    assert keep.tolist() == ARRAYS[f"{prefix}keep_f64"].tolist()
    np.testing.assert_allclose(lowered, ARRAYS[f"{prefix}scores_f64"], rtol=0, atol=2e-7)
    if number == 1:  # mmcv takes another of equal scores first
        assert keep.tolist() == ARRAYS[f"{prefix}keep"].tolist()
        dets = ARRAYS[f"{prefix}dets"]
        np.testing.assert_array_equal(boxes[keep], dets[:, :4])
        # Its batched form shifts classes apart and loses up to 1e-6 by that.
        np.testing.assert_allclose(lowered, dets[:, 4], rtol=0, atol=2e-6 if per_class else 2e-7)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_the_first_boxes_are_the_best_of_all(method):
    boxes, scores, classes = case(1)
    keep, lowered = soft_nms(boxes, scores, classes, method=method)
    first = soft_nms(boxes, scores, classes, method=method, limit=7)
    assert first[0].tolist() == keep[:7].tolist() and first[1].tolist() == lowered[:7].tolist()
    assert (lowered.diff() <= 0).all()


@pytest.mark.parametrize("limit", [0, 1, 9])
def test_a_limit_beyond_the_boxes_is_none(limit):
    boxes, scores, classes = (x[:2] for x in case(1))
    keep, lowered = soft_nms(boxes, scores, classes, method="gaussian", limit=limit)
    assert len(keep) == len(lowered) == min(limit, 2) and keep.dtype == torch.int64


def test_other_classes_and_disjoint_boxes_keep_their_scores():
    boxes = boxes_of([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10]]).tensor
    scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    for method in ("linear", "gaussian"):
        keep, lowered = soft_nms(boxes, scores, classes, method=method)
        assert keep.tolist() == [0, 1, 2] and lowered.tolist() == scores.tolist()


def layers(cls=SoftFastRCNNOutputLayers, agnostic=False, **kwargs):
    torch.manual_seed(0)
    return cls(
        ShapeSpec(channels=4),
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=K,
        cls_agnostic_bbox_reg=agnostic,
        test_score_thresh=0.05,
        **kwargs,
    )


def predictions_of(sizes, agnostic):
    """Proposals of images of 100 x 120 pixels, and (scores, deltas) for them."""
    rng = np.random.default_rng(0)
    corners = [rng.uniform(-10, 60, (n, 2)) for n in sizes]
    boxes = [np.concatenate([c, c + rng.uniform(20, 60, c.shape)], axis=1) for c in corners]
    proposals = [Instances((100, 120), proposal_boxes=boxes_of(b)) for b in boxes]
    scores, deltas = (rng.normal(0, 2, (sum(sizes), n)) for n in (K + 1, 4 if agnostic else 4 * K))
    return proposals, tuple(torch.as_tensor(x, dtype=torch.float32) for x in (scores, deltas))


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("sizes", [[0], [1], [30], [0, 25, 12]])
def test_without_soft_nms_detections_are_detectron2_s(sizes, agnostic):
    proposals, predictions = predictions_of(sizes, agnostic)
    found, rows = layers(agnostic=agnostic).inference(predictions, proposals)
    stock, goals = layers(FastRCNNOutputLayers, agnostic).inference(predictions, proposals)
    for a, b, i, j in zip(found, stock, rows, goals, strict=True):
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor) and torch.equal(i, j)
        assert torch.equal(a.scores, b.scores) and torch.equal(a.pred_classes, b.pred_classes)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("sizes", [[0], [1], [30], [0, 25, 12]])
def test_a_predictor_suppresses_softly_class_by_class(sizes, agnostic, method):
    proposals, predictions = predictions_of(sizes, agnostic)
    predictor = layers(agnostic=agnostic, soft_nms=method, test_topk_per_image=20)
    found, rows = predictor.inference(predictions, proposals)
    boxes = predictor.predict_boxes(predictions, proposals)
    probs = predictor.predict_probs(predictions, proposals)
    for image, row, box, prob in zip(found, rows, boxes, probs, strict=True):
        expected = by_hand(box.numpy(), prob.numpy(), method)
        assert list(zip(row.tolist(), image.pred_classes.tolist())) == [e[:2] for e in expected]
        np.testing.assert_allclose(image.scores, [e[2] for e in expected], rtol=1e-5)
        goals = np.reshape([e[3] for e in expected], (-1, 4))
        np.testing.assert_allclose(image.pred_boxes.tensor, goals, atol=1e-4)


def by_hand(boxes, probs, method):
    """The 20 best (row, class, score, box), float64."""
    boxes = (
        boxes.reshape(len(boxes), boxes.shape[1] // 4, 4)
        .astype(np.float64)
        .clip(0, [120, 100, 120, 100])
    )
    found = []
    for k in range(K):
        left = {j: float(p) for j, p in enumerate(probs[:, k]) if p > 0.05}
        places = boxes[:, k % boxes.shape[1]]
        while left:
            best = max(left, key=left.get)
            score = left.pop(best)
            if score >= 0.05:
                found.append((best, k, score, places[best]))
            for j in left:
                left[j] *= factor(overlap(places[best], places[j]), method)
    return sorted(found, key=lambda e: -e[2])[:20]


def overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def factor(iou, method):
    if method == "gaussian":
        return np.exp(-(iou**2) / 0.5)
    return 1 - iou if iou >= 0.5 else 1


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="soft_nms must be one of none, linear, gaussian"):
        layers(soft_nms="soft")


def test_the_yaml_config_sets_it(build):
    model = build("SOFT_TEACHER.SOFT_NMS", "gaussian", "SOFT_TEACHER.SOFT_NMS_SIGMA", 0.25)
    for network in (model.student, model.teacher):
        predictor = network.roi_heads.box_predictor
        assert (predictor.soft_nms, predictor.soft_nms_sigma) == ("gaussian", 0.25)
    assert build().student.roi_heads.box_predictor.soft_nms == "none"


def test_a_detector_suppresses_softly(build):
    image = labeled()["image"]
    thresholds = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.001)
    hard, soft = (
        build(*thresholds, "SOFT_TEACHER.SOFT_NMS", method).eval()([{"image": image}])
        for method in ("none", "linear")
    )
    assert len(soft[0]["instances"]) > len(hard[0]["instances"]) > 0


def test_the_yaml_config_names_its_key_where_it_refuses(build):
    with pytest.raises(ConfigError, match="^SOFT_TEACHER.SOFT_NMS must be one of none, linear"):
        build("SOFT_TEACHER.SOFT_NMS", "soft")
