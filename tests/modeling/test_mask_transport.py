"""Masks cropped through the matrix against masks that are pasted, warped and cropped as bitmaps."""

import cv2
import numpy as np
import pytest
import torch
from by_hand import rotation, warp
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.structures import BitMasks, Instances
from mask_shapes import SIDE, blobs
from steps import boxes_of

from soft_teacher.geometry import invert_affine
from soft_teacher.modeling.mask_transport import TransportedMasks
from soft_teacher.modeling.views import ViewTransport

VIEW = (300, 400)  # height and width of the weak view
# Bitmaps of the strong view have so many pixels to one: at half the scale they would be coarser
# than the grids that are compared.
FINE = 2
UNMOVED = np.eye(3)
FLIP = np.array([[-1.0, 0, 400], [0, 1, 0], [0, 0, 1]])


def medium_boxes(n: int, seed: int = 1) -> torch.Tensor:
    """(n, 4) of 32^2 to 96^2 pixels in the middle of the weak view."""
    rng = np.random.default_rng(seed)
    sizes, ratios = rng.uniform(32, 96, n), rng.uniform(0.6, 1.6, n)
    sides = np.stack([sizes * ratios**0.5, sizes / ratios**0.5], axis=1)
    centers = rng.uniform((120, 100), (280, 200), (n, 2))
    return torch.tensor(np.hstack([centers - sides / 2, centers + sides / 2]), dtype=torch.float32)


def transported(probabilities, boxes, to_strong=UNMOVED, **options) -> TransportedMasks:
    matrix = torch.as_tensor(np.array(to_strong), dtype=torch.float32)
    return TransportedMasks(probabilities, boxes, invert_affine(matrix), **options)


def bitmap_crops(bitmaps, to_strong, size, rois) -> torch.Tensor:
    """Bitmaps of the weak view, warped into a strong view of this (height, width) and cropped."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    fine = np.diag([FINE, FINE, 1]) @ to_strong
    centers = np.linalg.inv(half) @ fine @ half  # OpenCV counts pixel centers from 0
    moved = [cv2.warpAffine(b, centers[:2], (FINE * size[1], FINE * size[0])) for b in bitmaps]
    return BitMasks(torch.tensor(np.array(moved) >= 0.5)).crop_and_resize(FINE * rois, SIDE)


def iou(one, other) -> torch.Tensor:
    shared, either = (one & other).sum(dim=(1, 2)), (one | other).sum(dim=(1, 2))
    return shared / either.clamp(min=1)


# --- against bitmaps

SHEAR = np.tan(np.deg2rad(30))
# Table 2 at its extremes; the strong view is as large as the scale makes it.
WARPS = {
    "nothing": (UNMOVED, VIEW),
    "flip": (FLIP, VIEW),
    "scale 0.5": (np.diag([0.5, 0.5, 1]), (150, 200)),
    "scale 1.5": (np.diag([1.5, 1.5, 1]), (450, 600)),
    "translation": (np.array([[1, 0, 40], [0, 1, -30], [0, 0, 1.0]]), VIEW),
    "rotation by 30": (rotation(30, (200, 150)), VIEW),
    "rotation by -30": (rotation(-30, (200, 150)), VIEW),
    "shear along x": (np.array([[1, SHEAR, -90], [0, 1, 0], [0, 0, 1]]), VIEW),
    "shear along y": (np.array([[1, 0, 0], [-SHEAR, 1, 110], [0, 0, 1]]), VIEW),
    "all": (
        rotation(20, (200, 150))
        @ np.array([[1, 0.3, -50], [0.2, 1.06, -40], [0, 0, 1]])
        @ np.diag([1.2, 1.2, 1])
        @ FLIP,
        (400, 520),
    ),
}


@pytest.mark.parametrize("name", WARPS)
def test_crops_are_those_of_pasted_and_warped_bitmaps(name):
    to_strong, size = WARPS[name]
    boxes, probabilities = medium_boxes(60), blobs(60)
    bitmaps = paste_masks_in_image(probabilities, boxes, VIEW, threshold=0.5)
    # RoIs as a student has them, somewhat beside the enclosing boxes.
    rois = torch.tensor(warp(boxes, to_strong, size), dtype=torch.float32)
    sides = (rois[:, 2:] - rois[:, :2]).repeat(1, 2)
    rois += (torch.rand(60, 4, generator=torch.Generator().manual_seed(2)) - 0.5) * 0.2 * sides
    expected = bitmap_crops(bitmaps.float().numpy(), to_strong, size, rois)
    found = transported(probabilities, boxes, to_strong).crop_and_resize(rois, SIDE)
    assert found.dtype == torch.bool and found.shape == (60, SIDE, SIDE)
    assert expected.flatten(1).any(dim=1).all()
    assert iou(found, expected).mean() >= 0.97


# --- by hand


def test_in_the_same_view_they_are_the_probabilities_themselves():
    boxes, probabilities = medium_boxes(5), blobs(5)
    masks = transported(probabilities, boxes)
    torch.testing.assert_close(masks.sample(boxes, SIDE), probabilities, rtol=0, atol=1e-4)
    torch.testing.assert_close(masks.softened().crop_and_resize(boxes, SIDE), probabilities,
                               rtol=0, atol=1e-4)  # fmt: skip
    assert torch.equal(masks.crop_and_resize(boxes, SIDE), masks.sample(boxes, SIDE) >= 0.5)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_a_flip_mirrors_them_exactly(size):
    boxes, probabilities = boxes_of([[8, 16, 72, 48], [100, 0, 228, 256]]).tensor, blobs(2)
    mirrored = torch.tensor(warp(boxes, FLIP), dtype=torch.float32)
    plain = transported(probabilities, boxes).sample(boxes, size)
    assert torch.equal(
        transported(probabilities, boxes, FLIP).sample(mirrored, size), plain.flip(dims=[2])
    )


def test_outside_its_box_a_mask_is_zero_and_inside_it_reaches_the_border():
    boxes, roi = boxes_of([[10, 20, 30, 60]]).tensor, boxes_of([[0, 0, 40, 80]]).tensor
    found = transported(torch.ones(1, SIDE, SIDE), boxes).sample(roi, 8)
    expected = torch.zeros(1, 8, 8)
    expected[:, 2:6, 2:6] = 1
    assert torch.equal(found, expected)


def test_between_the_centers_of_the_teacher_s_pixels_they_are_bilinear():
    boxes = boxes_of([[0, 0, 2, 2]]).tensor
    masks = transported(torch.tensor([[[0.0, 0.4], [0.8, 1.0]]]), boxes)
    found = masks.sample(boxes_of([[0.5, 0.5, 1.5, 1.5]]).tensor, 2)
    expected = [[[0.2875, 0.4625], [0.6625, 0.7875]]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("size", [1, SIDE])
def test_no_masks(size):
    masks = transported(torch.zeros(0, SIDE, SIDE), torch.zeros(0, 4))
    found = masks.crop_and_resize(torch.zeros(0, 4), size)
    assert len(masks) == 0 and found.shape == (0, size, size) and found.dtype == torch.bool
    assert masks.softened().crop_and_resize(torch.zeros(0, 4), size).dtype == torch.float32
    assert len(masks[torch.zeros(0, dtype=torch.int64)]) == 0


def test_a_box_without_extent_has_an_empty_mask():
    boxes = boxes_of([[5, 5, 5, 9]]).tensor
    masks = transported(torch.ones(1, SIDE, SIDE), boxes)
    for roi in (boxes, boxes_of([[0, 0, 10, 10]]).tensor):
        assert not masks.crop_and_resize(roi, 7).any()


# --- as Detectron2 handles them

INDICES = {
    "rows": torch.tensor([2, 0, 2]),
    "no rows": torch.zeros(0, dtype=torch.int64),
    "mask": torch.tensor([True, False, True, True]),
    "slice": slice(1, 3),
}


@pytest.mark.parametrize("name", INDICES)
def test_they_are_indexed_as_a_field_of_instances(name):
    boxes, probabilities, index = medium_boxes(4), blobs(4), INDICES[name]
    targets = Instances(VIEW, gt_boxes=boxes_of(boxes.numpy()))
    targets.gt_masks = transported(probabilities, boxes, soft=True)
    found = targets[index].to("cpu")
    assert len(found.gt_masks) == len(boxes[index]) and found.gt_masks.soft
    assert found.gt_masks.device == torch.device("cpu")
    crops = found.gt_masks.crop_and_resize(boxes[index], SIDE)
    torch.testing.assert_close(crops, probabilities[index], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_coarsen_the_places(dtype):
    """Far from the origin a half-precision pixel is several pixels wide."""
    boxes = medium_boxes(3) + 900.25
    masks = transported(blobs(3).to(dtype), boxes, WARPS["all"][0])
    rois = torch.tensor(warp(boxes, WARPS["all"][0]), dtype=torch.float32)
    plain = masks.sample(rois, SIDE)
    with torch.autocast("cpu", dtype=dtype):
        found = masks.sample(rois, SIDE)
    assert found.dtype == torch.float32 and torch.equal(found, plain)


def test_a_transport_makes_those_of_each_image_with_its_own_matrix():
    matrices = torch.tensor(np.stack([FLIP, UNMOVED, UNMOVED]), dtype=torch.float32)
    transport = ViewTransport(matrices, [VIEW] * 3, [VIEW] * 3, torch.device("cpu"))
    boxes = medium_boxes(2)
    seen = [Instances(VIEW, pred_boxes=boxes_of(boxes.numpy())) for _ in range(3)]
    for found in seen[:2]:
        found.pred_masks = blobs(2)[:, None]
    *masks, none = transport.masks(seen)
    assert none is None
    for found, moved in zip(masks, transport.to_strong([s.pred_boxes for s in seen])):
        crops = found.sample(moved.tensor, SIDE)
        expected = blobs(2).flip(dims=[2]) if found is masks[0] else blobs(2)
        torch.testing.assert_close(crops, expected, rtol=0, atol=1e-3)
