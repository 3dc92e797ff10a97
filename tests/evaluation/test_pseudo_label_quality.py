"""Greedy matching of pseudo boxes with ground truth, and its precision and recall."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from soft_teacher.evaluation.pseudo_label_quality import (
    Matches,
    box_iou,
    judge_boxes,
    match_boxes,
)

BOX = [0, 0, 10, 10]
HALF = [0, 0, 10, 20]  # IoU with BOX: 100 / 200
LESS = [0, 0, 10, 20.1]
LEFT, RIGHT = [0, 0, 10, 10], [20, 0, 30, 10]
# IoU with LEFT: 80 / 100 and 60 / 100
LARGE_PART, SMALL_PART = [0, 0, 8, 10], [0, 0, 6, 10]
WIDE = [0, 0, 100, 10]

# pseudo boxes (box, class, score), objects (box, class), true and false positives, false negatives
CASES = {
    "no boxes, no objects": ([], [], (0, 0, 0)),
    "no boxes": ([], [(LEFT, 0), (RIGHT, 1)], (0, 0, 2)),
    "no objects": ([(LEFT, 0, 0.9), (RIGHT, 1, 0.8)], [], (0, 2, 0)),
    "a hit": ([(LEFT, 0, 0.9)], [(LEFT, 0)], (1, 0, 0)),
    "a miss": ([(LEFT, 0, 0.9)], [(RIGHT, 0)], (0, 1, 1)),
    "another class": ([(LEFT, 1, 0.9)], [(LEFT, 0)], (0, 1, 1)),
    "half is enough": ([(HALF, 0, 0.9)], [(BOX, 0)], (1, 0, 0)),
    "less is not": ([(LESS, 0, 0.9)], [(BOX, 0)], (0, 1, 1)),
    "two boxes on one object": ([(LEFT, 0, 0.9), (LEFT, 0, 0.8)], [(LEFT, 0)], (1, 1, 0)),
    "two classes in one place": (
        [(LEFT, 0, 0.9), (LEFT, 1, 0.8)],
        [(LEFT, 1), (LEFT, 0)],
        (2, 0, 0),
    ),
    "one box on two objects": ([(LEFT, 0, 0.9)], [(LEFT, 0), (LARGE_PART, 0)], (1, 0, 1)),
    "the second best object is left": (
        [(LEFT, 0, 0.9), (LEFT, 0, 0.8)],
        [(SMALL_PART, 0), (LARGE_PART, 0)],
        (2, 0, 0),
    ),
    # IoU of [0, 0, 20, 10] with LEFT: 1 / 2, with LARGE_PART: 80 / 200
    "the confident box takes the best object though the other has no second": (
        [([0, 0, 20, 10], 0, 0.8), (LEFT, 0, 0.9)],
        [(LEFT, 0), (LARGE_PART, 0)],
        (1, 1, 1),
    ),
    "the other way round both find one": (
        [([0, 0, 20, 10], 0, 0.9), (LEFT, 0, 0.8)],
        [(LEFT, 0), (LARGE_PART, 0)],
        (2, 0, 0),
    ),
    "boxes without area": (
        [([5, 5, 5, 5], 0, 0.9)],
        [([5, 5, 5, 5], 0), ([5, 5, 5, 9], 0)],
        (0, 1, 2),
    ),
}


def columns(rows, count):
    """Boxes, classes and scores as arrays."""
    boxes, *rest = zip(*rows) if rows else [()] * count
    kinds = (int, float)
    rest = [np.array(column, dtype=kind) for column, kind in zip(rest, kinds)]
    return [np.array(boxes, dtype=float).reshape(-1, 4), *rest]


def matched(found, objects, **options):
    return match_boxes(*columns(found, 3), *columns(objects, 2), **options)


def judged(found, objects, crowds=()):
    """Hits and neutral boxes as lists; the arguments are left alone."""
    arguments = [*columns(found, 3), *columns(objects, 2), columns(crowds, 2)]
    copies = [np.copy(array) for array in arguments[:5]]
    hits, neutral = judge_boxes(*arguments)
    assert all(map(np.array_equal, arguments, copies))
    return hits.tolist(), neutral.tolist()


@pytest.mark.parametrize("found, objects, expected", CASES.values(), ids=CASES.keys())
def test_hand_worked_matches(found, objects, expected):
    assert matched(found, objects) == Matches(*expected)


@pytest.mark.parametrize("iou_thresh, hits", [(0.5, 1), (0.6, 1), (0.61, 0), (1.0, 0)])
def test_the_overlap_that_counts_can_be_chosen(iou_thresh, hits):
    found = matched([(SMALL_PART, 0, 0.9)], [(LEFT, 0)], iou_thresh=iou_thresh)
    assert found.true_positives == hits


@pytest.mark.parametrize(
    "found, objects, hits, neutral",
    [
        ([], [], [], []),
        ([(LEFT, 0, 0.9)], [], [False], [True]),
        ([(LEFT, 1, 0.9)], [], [False], [False]),
        # Any number of boxes; half of their own area is enough, whatever the crowd's size.
        ([(LEFT, 0, 0.9), (HALF, 0, 0.8)], [], [False] * 2, [True] * 2),
        ([(LESS, 0, 0.9)], [], [False], [False]),
        # An object comes first, and only once.
        ([(LEFT, 0, 0.8), (LEFT, 0, 0.9)], [(LEFT, 0)], [False, True], [True, False]),
    ],
)
def test_a_box_in_a_crowd_is_neither_right_nor_wrong(found, objects, hits, neutral):
    assert judged(found, objects, [(WIDE, 0)]) == (hits, neutral)


def coco_verdicts(found, objects, crowds):
    """Hits and neutral boxes, counted by COCO's own evaluation at IoU 0.5."""
    xywh = lambda box: [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    truth, results = COCO(), COCO()
    annotations = [
        {"id": n, "image_id": 1, "category_id": c, "bbox": xywh(b), "area": 1, "iscrowd": crowd}
        for n, (b, c, crowd) in enumerate([(*o, 0) for o in objects] + [(*o, 1) for o in crowds], 1)
    ]
    categories = [{"id": c} for c in range(3)]
    truth.dataset = {"images": [{"id": 1}], "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results = truth.loadRes(
            [{"image_id": 1, "category_id": c, "bbox": xywh(b), "score": s} for b, c, s in found]
        )
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
    images = [e for e in evaluation.evalImgs if e is not None]
    verdicts = [(e["dtMatches"] > 0, e["dtIgnore"] > 0) for e in images]
    return tuple(
        sum(int(m.sum()) for m in part) for part in zip(*((h & ~n, n) for h, n in verdicts))
    )


@pytest.mark.parametrize("crowds", [0, 3])
def test_crowded_images_match_as_in_coco_s_evaluation(crowds):
    rng = np.random.default_rng(crowds)
    total = np.zeros(4, dtype=int)
    for _ in range(50):
        corners = rng.uniform(0, 20, (30, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 25, (30, 2))]).tolist()
        classes = rng.integers(0, 3, 30).tolist()
        found = list(zip(boxes[:18], classes[:18], rng.random(18).tolist()))
        others = list(zip(boxes[18:], classes[18:]))
        objects, crowd = others[: 12 - crowds], others[12 - crowds :]
        hits, neutral = map(sum, judged(found, objects, crowd))
        assert (hits, neutral) == coco_verdicts(found, objects, crowd)
        expected = hits, len(found) - hits, len(objects) - hits
        assert matched(found, objects) == Matches(*expected)
        total += (*expected, neutral)
    assert total[:3].min() > 50 and (total[3] > 50) == (crowds > 0)


def test_a_verdict_does_not_depend_on_boxes_with_lower_scores():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 20, (40, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 25, (40, 2))]).tolist()
    scores = np.linspace(1, 0, 30, endpoint=False).tolist()
    found = [(box, 0, score) for box, score in zip(boxes, scores)]
    objects = [(box, 0) for box in boxes[30:]]
    all_hits, _ = judged(found, objects)
    for count in range(31):
        assert judged(found[:count], objects)[0] == all_hits[:count]


@pytest.mark.parametrize(
    "other, iou",
    [(BOX, 1), (HALF, 0.5), (RIGHT, 0), ([10, 0, 20, 10], 0), ([5, 5, 15, 15], 25 / 175)],
)
def test_overlap_of_two_boxes_or_none(other, iou):
    nothing, box, other = np.zeros((0, 4)), np.array([BOX]), np.array([other])
    assert box_iou(nothing, box).shape == (0, 1) and box_iou(box, nothing).shape == (1, 0)
    assert box_iou(box, other) == pytest.approx(iou)


def test_of_a_box_in_a_crowd_its_own_area_counts():
    box, half = np.array([BOX]), np.array([HALF])
    assert box_iou(half, box, crowds=True) == box_iou(half, box) == 0.5
    assert box_iou(box, half, crowds=True) == 1


@pytest.mark.parametrize(
    "matches, precision, recall",
    [
        (Matches(), None, None),
        (Matches(false_negatives=3), None, 0.0),
        (Matches(false_positives=2), 0.0, None),
        (Matches(1, 3, 0), 0.25, 1.0),
        (Matches(1, 0, 2) + Matches(2, 1, 0), 0.75, 0.6),
    ],
)
def test_precision_and_recall(matches, precision, recall):
    assert (matches.precision, matches.recall) == (precision, recall)
