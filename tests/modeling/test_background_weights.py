"""Eq. 4-6 and Table 8: the coefficient of every sampled box in the classification loss."""

import numpy as np
import pytest
import torch
from steps import boxes_of

from soft_teacher.modeling.background_weights import classification_weights, overlap, reliability

SCORES = {
    "teacher_bg": [0.0, 0.25, 1.0, 0.75],
    "student_bg": [0.5, 0.75, 0.125, 0.75],
    "iou": [0.0, 0.375, 1.0, 0.25],
}
# indicator: (what it reads, r by hand)
TABLE_8 = {
    "bg_teacher": (["teacher_bg"], [0.0, 0.25, 1.0, 0.75]),
    "bg_student": (["student_bg"], [0.5, 0.75, 0.125, 0.75]),
    "pred_diff": (["teacher_bg", "student_bg"], [0.5, 0.5, 0.125, 1.0]),
    "iou": (["iou"], [0.0, 0.375, 1.0, 0.25]),
    "reverse_iou": (["iou"], [1.0, 0.625, 0.0, 0.75]),
}


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("indicator", TABLE_8)
def test_reliability_of_boxes_by_hand(indicator, dtype, count):
    names, expected = TABLE_8[indicator]
    scores = {n: torch.tensor(SCORES[n][:count], dtype=dtype, requires_grad=True) for n in names}
    r = reliability(indicator, **scores)
    assert r.dtype == torch.float32 and not r.requires_grad
    assert r.tolist() == expected[:count]


PSEUDO = [[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0]]
# boxes, pseudo boxes, largest IoU by hand
OVERLAPS = {
    "no boxes, no pseudo boxes": ([], [], []),
    "no boxes": ([], PSEUDO, []),
    "no pseudo boxes": ([[0, 0, 10, 10], [5, 5, 6, 6]], [], [0, 0]),
    "the box itself": ([[0, 0, 10, 10]], PSEUDO, [1]),
    "beside all": ([[0, 20, 10, 30]], PSEUDO, [0]),
    # 80 of 100 + 100 - 80 with the first, 20 of 180 with the second
    "the larger of two": ([[2, 0, 12, 10]], PSEUDO, [80 / 120]),
    "no extent": ([[5, 5, 5, 5]], PSEUDO, [0]),
    "one row each": ([[0, 0, 10, 5], [10, 0, 20, 10]], PSEUDO, [0.5, 1]),
}


@pytest.mark.parametrize("boxes, pseudo, expected", OVERLAPS.values(), ids=OVERLAPS.keys())
def test_overlap_is_the_largest_iou_with_a_pseudo_box(boxes, pseudo, expected):
    result = overlap(boxes_of(boxes), boxes_of(pseudo))
    assert result.shape == (len(expected),)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


# foreground, r, paper's weights, released weights; 9 at a foreground must not be read
FG, BG = True, False
WEIGHTS = {
    "empty": ([], [], [], []),
    "one foreground": ([FG], [9.0], [1], [1]),
    "one background": ([BG], [0.25], [1], [0.25]),
    "no background": ([FG] * 4, [9.0] * 4, [1 / 4] * 4, [1 / 4] * 4),
    "no foreground, sum r below 1": ([BG, BG], [0.2, 0.6], [0.25, 0.75], [0.2, 0.6]),
    "no foreground, sum r above 1": ([BG] * 3, [1, 0.5, 1], [0.4, 0.2, 0.4], [0.4, 0.2, 0.4]),
    "both": (
        [FG, BG, FG, BG, BG],
        [9.0, 0.1, 9.0, 0.5, 0.4],
        [1 / 2, 0.1, 1 / 2, 0.5, 0.4],
        [1 / 3, 0.1 / 3, 1 / 3, 0.5 / 3, 0.4 / 3],
    ),
    "both, sum r is not 1": (
        [FG, BG, BG],
        [9.0, 0.9, 0.6],
        [1, 0.6, 0.4],
        [1 / 2.5, 0.9 / 2.5, 0.6 / 2.5],
    ),
    "sum r = 0": ([FG, BG, BG], [9.0, 0, 0], [1, 0, 0], [1, 0, 0]),
    "sum r = 0, no foreground": ([BG, BG], [0, 0], [0, 0], [0, 0]),
    "tiny r": ([BG, BG], [1e-30, 3e-30], [0.25, 0.75], [1e-30, 3e-30]),
}


@pytest.mark.parametrize("formula", ["paper", "reference"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_by_hand(name, formula):
    foreground, r, paper, reference = WEIGHTS[name]
    foreground, given = torch.tensor(foreground, dtype=torch.bool), torch.tensor(r).float()
    weights = classification_weights(foreground, given, formula)
    assert weights.dtype == torch.float32 and weights.shape == foreground.shape
    expected = {"paper": paper, "reference": reference}[formula]
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=0)
    assert torch.equal(given, torch.tensor(r).float())


@pytest.mark.parametrize("formula", ["paper", "reference"])
@pytest.mark.parametrize("n", [0, 1, 3, 512])
def test_without_r_every_box_counts_one_nth(n, formula):
    weights = classification_weights(torch.arange(n) % 3 == 0, None, formula)
    np.testing.assert_allclose(weights, np.full(n, 1 / max(n, 1)), rtol=1e-6)
