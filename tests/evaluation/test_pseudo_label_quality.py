"""Greedy matching of pseudo boxes with the truth, and precision and recall of it."""

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
    "the certain box takes the best object though the other has no second": (
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


def matched(found, objects, **options):
    boxes, classes, scores = zip(*found) if found else ((), (), ())
    true_boxes, true_classes = zip(*objects) if objects else ((), ())
    return match_boxes(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(classes, dtype=int),
        np.array(scores, dtype=float),
        np.array(true_boxes, dtype=float).reshape(-1, 4),
        np.array(true_classes, dtype=int),
        **options,
    )


@pytest.mark.parametrize("found, objects, expected", CASES.values(), ids=CASES.keys())
def test_hand_worked_matches(found, objects, expected):
    assert matched(found, objects) == Matches(*expected)


@pytest.mark.parametrize("iou_thresh, hits", [(0.5, 1), (0.6, 1), (0.61, 0), (1.0, 0)])
def test_the_overlap_that_counts_can_be_chosen(iou_thresh, hits):
    found = matched([(SMALL_PART, 0, 0.9)], [(LEFT, 0)], iou_thresh=iou_thresh)
    assert found.true_positives == hits


def test_the_arguments_are_left_alone():
    boxes, classes = np.array([LEFT, LEFT], dtype=float), np.zeros(2, dtype=int)
    arguments = boxes, classes, np.array([0.8, 0.9]), boxes.copy(), classes.copy()
    copies = [a.copy() for a in arguments]
    match_boxes(*arguments)
    assert all(np.array_equal(a, c) for a, c in zip(arguments, copies))


def coco_verdicts(found, objects, crowds=()):
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
    matched = [(e["dtMatches"] > 0, e["dtIgnore"] > 0) for e in images]
    return tuple(
        sum(int(m.sum()) for m in part) for part in zip(*((h & ~n, n) for h, n in matched))
    )


def test_crowded_images_match_as_in_coco_s_evaluation():
    rng = np.random.default_rng(0)
    total = Matches()
    for _ in range(50):
        corners = rng.uniform(0, 20, (30, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 25, (30, 2))])
        classes, scores = rng.integers(0, 3, 30), rng.random(30)
        found = list(zip(boxes[:18].tolist(), classes[:18].tolist(), scores[:18].tolist()))
        objects = list(zip(boxes[18:].tolist(), classes[18:].tolist()))
        hits, _ = coco_verdicts(found, objects)
        expected = Matches(hits, len(found) - hits, len(objects) - hits)
        assert matched(found, objects) == expected
        total += expected
    assert min(total.true_positives, total.false_positives, total.false_negatives) > 50


# --- crowds


def boxes_and_classes(pairs):
    boxes, classes = zip(*pairs) if pairs else ((), ())
    return np.array(boxes, dtype=float).reshape(-1, 4), np.array(classes, dtype=int)


def judged(found, objects, crowds):
    """Hits and neutral boxes as lists."""
    boxes, classes, scores = zip(*found) if found else ((), (), ())
    hits, neutral = judge_boxes(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(classes, dtype=int),
        np.array(scores, dtype=float),
        *boxes_and_classes(objects),
        boxes_and_classes(crowds),
    )
    return hits.tolist(), neutral.tolist()


WIDE = [0, 0, 100, 10]


@pytest.mark.parametrize(
    "found, objects, crowds, hits, neutral",
    [
        ([], [], [(WIDE, 0)], [], []),
        ([(LEFT, 0, 0.9)], [], [(WIDE, 0)], [False], [True]),
        ([(LEFT, 1, 0.9)], [], [(WIDE, 0)], [False], [False]),
        # Any number of boxes; half of their own area is enough, whatever the crowd's size.
        ([(LEFT, 0, 0.9), (HALF, 0, 0.8)], [], [(WIDE, 0)], [False] * 2, [True] * 2),
        ([(LESS, 0, 0.9)], [], [(WIDE, 0)], [False], [False]),
        # An object comes first, and only once.
        ([(LEFT, 0, 0.8), (LEFT, 0, 0.9)], [(LEFT, 0)], [(WIDE, 0)], [False, True], [True, False]),
    ],
)
def test_a_box_in_a_crowd_is_neither_right_nor_wrong(found, objects, crowds, hits, neutral):
    assert judged(found, objects, crowds) == (hits, neutral)


def test_crowds_are_treated_as_in_coco_s_evaluation():
    rng = np.random.default_rng(1)
    total = np.zeros(2, dtype=int)
    for _ in range(50):
        corners = rng.uniform(0, 20, (30, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 25, (30, 2))]).tolist()
        classes = rng.integers(0, 3, 30).tolist()
        found = list(zip(boxes[:18], classes[:18], rng.random(18).tolist()))
        objects, crowds = (list(zip(boxes[a:b], classes[a:b])) for a, b in ((18, 27), (27, 30)))
        counts = tuple(map(sum, judged(found, objects, crowds)))
        assert counts == coco_verdicts(found, objects, crowds)
        total += counts
    assert total.min() > 50


def test_a_verdict_does_not_depend_on_boxes_with_lower_scores():
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 20, (40, 2))
    boxes = np.hstack([corners, corners + rng.uniform(5, 25, (40, 2))]).tolist()
    scores = np.linspace(1, 0, 30, endpoint=False).tolist()
    found = [(box, 0, score) for box, score in zip(boxes, scores)]
    objects = [(box, 0) for box in boxes[30:]]
    all_hits, _ = judged(found, objects, [])
    for count in range(31):
        assert judged(found[:count], objects, [])[0] == all_hits[:count]


# --- overlap


def test_no_boxes_overlap_nothing():
    nothing, box = np.zeros((0, 4)), np.array([BOX])
    assert box_iou(nothing, box).shape == (0, 1)
    assert box_iou(box, nothing).shape == (1, 0)


@pytest.mark.parametrize(
    "other, iou",
    [(BOX, 1), (HALF, 0.5), (RIGHT, 0), ([10, 0, 20, 10], 0), ([5, 5, 15, 15], 25 / 175)],
)
def test_overlap_of_two_boxes(other, iou):
    assert box_iou(np.array([BOX]), np.array([other])) == pytest.approx(iou)


def test_of_a_box_in_a_crowd_its_own_area_counts():
    box, half = np.array([BOX]), np.array([HALF])
    assert box_iou(half, box, crowds=True) == box_iou(half, box) == 0.5
    assert box_iou(box, half, crowds=True) == 1


# --- precision and recall


@pytest.mark.parametrize(
    "matches, precision, recall",
    [
        (Matches(), None, None),
        (Matches(false_negatives=3), None, 0.0),
        (Matches(false_positives=2), 0.0, None),
        (Matches(1, 3, 0), 0.25, 1.0),
        (Matches(3, 1, 2), 0.75, 0.6),
    ],
)
def test_precision_and_recall(matches, precision, recall):
    assert (matches.precision, matches.recall) == (precision, recall)


def test_counts_of_images_add_up():
    assert sum([Matches(1, 0, 4), Matches(2, 6, 0)], Matches()) == Matches(3, 6, 4)
