"""IoU of pseudo masks: a rasterised oracle in float64, and what is held of ground truth."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks
from pycocotools import mask as coco_mask

from soft_teacher.evaluation.pseudo_mask_quality import HeldMasks, bitmap_iou, mask_iou

H, W = 60, 80
M = 28
FINE = 8  # points to a pixel, along each axis, of the oracle
FULL = np.ones((1, M, M))
NOTHING = np.zeros((1, M, M))
LEFT_HALF = np.concatenate([np.ones((1, M, M // 2)), np.zeros((1, M, M // 2))], axis=2)
BOX = [[10.0, 20, 38, 34]]  # 28 x 14 pixels: a cell is half a pixel


def iou(probabilities, truth, area, box=BOX):
    (found,) = mask_iou(np.asarray(probabilities), np.array(box), truth, np.array([area]))
    return found


# --- by hand


def test_without_masks_there_is_no_iou():
    nothing = np.zeros((0, M, M))
    assert mask_iou(nothing, np.zeros((0, 4)), nothing, np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    "probabilities, truth, area, expected",
    [
        (NOTHING, NOTHING, 0, 0),
        (FULL, NOTHING, 0, 0),
        (NOTHING, FULL, 392, 0),
        (FULL, FULL, 392, 1),
        (LEFT_HALF, FULL, 392, 0.5),
        (LEFT_HALF, 1 - LEFT_HALF, 196, 0),
        # As much of the object again is outside the box.
        (FULL, FULL, 784, 0.5),
        (LEFT_HALF, FULL, 784, 0.25),
        (NOTHING, NOTHING, 50, 0),
        # The cells of a small object may cover more than its area.
        (FULL, FULL, 390, 1),
        # A half is enough, as in Detectron2.
        (0.5 * FULL, FULL, 392, 1),
        (0.499 * FULL, FULL, 392, 0),
    ],
)
def test_shares_of_the_box_and_what_is_outside(probabilities, truth, area, expected):
    assert iou(probabilities, truth > 0, area) == pytest.approx(expected)


def test_a_box_without_area_has_no_iou():
    assert iou(FULL, FULL > 0, 0, [[3.0, 3, 3, 9]]) == 0


def test_each_mask_counts_in_the_pixels_of_its_own_box():
    masks, boxes = np.concatenate([FULL, FULL]), np.array([[0.0, 0, 10, 10], [0, 0, 20, 20]])
    found = mask_iou(masks, boxes, masks > 0, np.array([200.0, 800.0]))
    assert found == pytest.approx([0.5, 0.5])


# --- rasterised


def ellipse(rng):
    """The (40, 2) corners of a polygon."""
    center, axes = rng.uniform((25, 20), (55, 40)), rng.uniform(8, 18, 2)
    turn, angles = rng.uniform(0, np.pi), np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([axes[0] * np.cos(angles), axes[1] * np.sin(angles)], 1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ rotation.T + center


def covered(points):
    """bool (H * FINE, W * FINE): which points of a fine grid lie in a polygon."""
    grid = np.zeros((H * FINE, W * FINE), np.uint8)
    return cv2.fillPoly(grid, [np.round(points * FINE - 0.5).astype(np.int32)], 1) > 0


def likely(probabilities, box):
    """Which of them lie in a cell of the box whose probability is at least a half."""
    axes = ((np.arange(n * FINE) + 0.5) / FINE for n in (H, W))
    cells = [
        np.floor((at - low) / (high - low) * M).astype(int)
        for at, low, high in zip(axes, box[1::-1], box[:1:-1])
    ]
    inside = [(c >= 0) & (c < M) for c in cells]
    rows, columns = (c.clip(0, M - 1) for c in cells)
    return (probabilities >= 0.5)[rows][:, columns] & inside[0][:, None] & inside[1]


@pytest.mark.parametrize("kind", [PolygonMasks, BitMasks])
def test_it_is_the_iou_of_the_rasterised_masks(kind):
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        points = ellipse(rng)
        tight = np.concatenate([points.min(0), points.max(0)])
        box = tight + rng.uniform(-6, 6, 4)  # a part of the object may be outside
        y, x = np.mgrid[:M, :M]
        radius = np.hypot(x - rng.uniform(10, 18), y - rng.uniform(10, 18))
        probabilities = 1 / (1 + np.exp((radius - rng.uniform(8, 16)) / 2))
        mask, truth = likely(probabilities, box), covered(points)
        expected = (mask & truth).sum() / (mask | truth).sum()
        if kind is PolygonMasks:
            held = HeldMasks(PolygonMasks([[points.reshape(-1)]]))
        else:
            shares = truth.reshape(H, FINE, W, FINE).mean(axis=(1, 3))
            held = HeldMasks(BitMasks(torch.from_numpy(shares >= 0.5)[None]))
        (found,) = held.iou(np.array([0]), probabilities[None], box[None])
        errors.append(abs(found - expected))
    assert max(errors) < 0.04 and np.mean(errors) < 0.015


# --- bitmaps


def test_a_mask_without_pixels_covers_nothing():
    assert bitmap_iou(np.zeros((H, W), bool), [[0, 0, 10, 0, 10, 10]]) == 0


def test_bitmaps_are_compared_with_segmentations_of_every_form():
    truth, mask = np.zeros((H, W), bool), np.zeros((H, W), bool)
    truth[10:20, 10:30] = True
    mask[10:20, 20:40] = True
    rle = coco_mask.encode(np.asfortranarray(truth, dtype=np.uint8))
    column = truth.T.reshape(-1)
    turns = np.flatnonzero(np.diff(column)) + 1
    counts = {"size": [H, W], "counts": np.diff([0, *turns, H * W]).tolist()}
    parts = [[10, 10, 20, 10, 20, 20, 10, 20], [20, 10, 30, 10, 30, 20, 20, 20]]
    for segmentation in (rle, {**rle, "counts": rle["counts"].decode()}, counts, parts):
        assert bitmap_iou(mask, segmentation) == pytest.approx(1 / 3)


# --- held


def bitmaps(count=3):
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.random((count, 5, 11)) < 0.5)


def test_bitmaps_are_held_in_an_eighth_of_their_memory():
    masks = BitMasks(torch.zeros(2, 80, 160, dtype=torch.bool))
    held = HeldMasks(masks)
    assert held._bits.nbytes * 8 == masks.tensor.numel()


def test_bitmaps_of_odd_widths_come_back():
    held, whole = HeldMasks(BitMasks(bitmaps())), np.array([[0.0, 0, 11, 5]])
    grids, areas = held._of_bitmaps(np.array([2]), whole, 55)
    assert (grids[0, ::11, ::5] == bitmaps()[2].numpy()).all() and areas == bitmaps()[2].sum()


def test_objects_are_compared_by_their_numbers():
    square = lambda x: [np.array([x, 0.0, x + 10, 0, x + 10, 10, x, 10])]
    polygons = PolygonMasks([square(0), square(20), square(40)])
    boxes = np.array([[40.0, 0, 50, 10], [0, 0, 10, 10]])
    for masks in (polygons, BitMasks.from_polygon_masks(polygons, H, W)):
        held = HeldMasks(masks)
        found = held.iou(np.array([2, 0]), np.ones((2, M, M)), boxes)
        assert found == pytest.approx([1, 1])
        assert held.iou(np.array([0, 2]), np.ones((2, M, M)), boxes) == pytest.approx([0, 0])
