"""Proposals and pseudo boxes of unlabeled images, for the losses of ROI heads."""

import pytest
import torch
from detectron2.structures import Instances
from steps import SIZE, boxes_of, targets

EVERYTHING = 256  # samples per image: more than any scene here has

A, B, C = [10, 10, 40, 40], [50, 20, 90, 60], [4, 40, 24, 60]
NEAR_A, NEAR_B = [12, 10, 40, 42], [50, 22, 86, 60]
HALF_A = [10, 10, 22, 40]  # IoU 0.4 with A
ELSEWHERE = [[60, 0, 80, 10], [0, 0, 8, 8], [30, 50, 60, 64]]

# per image: proposals, (boxes, classes) of G_cls, (boxes, classes) of G_reg
NO_BOXES = ([], [])
SCENES = {
    "no proposals, no pseudo boxes": [([], NO_BOXES, NO_BOXES)],
    "one proposal, no pseudo boxes": [([A], NO_BOXES, NO_BOXES)],
    "no pseudo boxes": [(ELSEWHERE, NO_BOXES, NO_BOXES)],
    "no background": [([], ([A, B], [0, 2]), ([A, B], [0, 2]))],
    "no G_reg": [([NEAR_A, HALF_A, *ELSEWHERE], ([A], [1]), NO_BOXES)],
    "no G_cls": [([NEAR_A, HALF_A, *ELSEWHERE], NO_BOXES, ([A], [1]))],
    "both, different": [([NEAR_A, NEAR_B, HALF_A, *ELSEWHERE], ([A, B], [0, 2]), ([B, C], [2, 1]))],
    "three images": [
        ([NEAR_A, HALF_A, *ELSEWHERE], ([A, C], [0, 2]), ([A], [0])),
        (ELSEWHERE[:2], NO_BOXES, NO_BOXES),
        ([NEAR_B], ([B], [2]), ([B, A, C], [1, 0, 0])),
    ],
}
every_scene = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES.keys())


def proposals_of(scene):
    return [
        Instances(SIZE, proposal_boxes=boxes_of(boxes), objectness_logits=torch.zeros(len(boxes)))
        for boxes, _, _ in scene
    ]


def g_cls_of(scene):
    return [targets(*g) for _, g, _ in scene]


def g_reg_of(scene):
    return [targets(*g) for _, _, g in scene]


def over(average, images, loss):
    """Eq. 3 averages over images, the released code over the samples of the GPU."""
    if average == "gpu":
        return loss([sample for image in images for sample in image])
    return sum(map(loss, images)) / len(images)
