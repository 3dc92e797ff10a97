"""Which anchors are matched, and to what."""

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.structures import Boxes
from htc import htc_rpn
from steps import targets

from soft_teacher.modeling.families.htc import BestAnchorMatcher, InsideAnchorRPN

THRESHOLDS = ([0.3, 0.7], [0, -1, 1])

# IoU of ground truth (rows) with anchors (columns); matches and labels.
QUALITIES = {
    "no anchor": (torch.zeros(2, 0), [], []),
    "no ground truth": (torch.zeros(0, 3), [0, 0, 0], [0, 0, 0]),
    "by threshold": ([[0.8, 0.5, 0.1]], [0, 0, 0], [1, -1, 0]),
    "the best is good enough": ([[0.5, 0.4, 0.1]], [0, 0, 0], [1, -1, 0]),
    "the best is too bad": ([[0.29, 0.2, 0.1]], [0, 0, 0], [0, 0, 0]),
    "all that are best": ([[0.4, 0.4, 0.1]], [0, 0, 0], [1, 1, 0]),
    "none overlaps": ([[0.0, 0.0]], [0, 0], [0, 0]),
    "the best of one overlaps another more": ([[0.9, 0.6], [0.1, 0.5]], [0, 1], [1, 1]),
    "the best of two": ([[0.5, 0.1], [0.4, 0.2]], [1, 1], [1, 0]),
}


@pytest.mark.parametrize("quality, matches, labels", QUALITIES.values(), ids=QUALITIES.keys())
def test_every_ground_truth_has_its_best_anchors(quality, matches, labels):
    found = BestAnchorMatcher(*THRESHOLDS)(torch.as_tensor(quality))
    assert found[0].tolist() == matches and found[1].tolist() == labels
    assert found[0].dtype == torch.int64 and found[1].dtype == torch.int8


def test_the_stock_matcher_differs_where_it_should():
    quality = torch.tensor(QUALITIES["the best of one overlaps another more"][0])
    matches, labels = Matcher(*THRESHOLDS, allow_low_quality_matches=True)(quality)
    assert matches.tolist() == [0, 0] and labels.tolist() == [1, 1]


def rpn_of(cls=InsideAnchorRPN, **kwargs):
    settings = {"batch_size_per_image": 1000, "anchor_boundary_thresh": 0, **kwargs}
    return htc_rpn(4, cls=cls, **settings)


ANCHORS = [
    Boxes(torch.tensor([[0.0, 0, 20, 20], [-1, 0, 21, 20]])),
    Boxes(torch.tensor([[30.0, 30, 62, 62]])),
]


def test_an_anchor_outside_is_not_matched_and_takes_no_object_away():
    # The anchor beyond the border overlaps the object more than the one inside.
    gt = [targets([[0, 0, 24, 32]], [1], size=(64, 64))]
    labels, boxes = rpn_of().label_and_sample_anchors(ANCHORS, gt)
    assert labels[0].tolist() == [1, -1, 0] and boxes[0][0].tolist() == [0, 0, 24, 32]
    stock, _ = rpn_of(RPN).label_and_sample_anchors(ANCHORS, gt)
    assert stock[0].tolist() == [-1, -1, 0]


def test_images_are_matched_one_by_one():
    gt = [targets(size=(64, 64)), targets([[30, 30, 60, 60]], [0], size=(64, 60))]
    labels, boxes = rpn_of().label_and_sample_anchors(ANCHORS, gt)
    assert [x.tolist() for x in labels] == [[0, -1, 0], [0, -1, -1]]
    assert [x.shape for x in boxes] == [(3, 4), (3, 4)]


def test_a_border_may_be_crossed_by_some_pixels():
    gt = [targets([[0, 0, 24, 32]], [1], size=(64, 64))]
    labels, _ = rpn_of(anchor_boundary_thresh=1).label_and_sample_anchors(ANCHORS, gt)
    assert labels[0].tolist() == [-1, 1, 0]


def test_without_anchors_inside_nothing_is_labeled():
    gt = [targets([[0, 0, 8, 8]], [1], size=(10, 10))]
    labels, _ = rpn_of().label_and_sample_anchors(ANCHORS, gt)
    assert labels[0].tolist() == [-1, -1, -1]
