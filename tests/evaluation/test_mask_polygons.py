"""Masks of every kind as polygons: rasterised again, they are the masks."""

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from soft_teacher.evaluation.mask_polygons import (
    annotated_polygons,
    bitmap_polygons,
    roi_polygons,
)

H, W = 40, 60
SQUARE = [10, 5, 40, 5, 40, 30, 10, 30]


def filled(polygons):
    """What polygons cover, their holes left out; lines through the centres of pixels."""
    picture = np.zeros((H, W), np.uint8)
    parts = [np.round(p.reshape(-1, 2) - 0.5).astype(np.int32) for p in polygons]
    return cv2.fillPoly(picture, parts, 1).astype(bool)


def blob():
    """Two parts, one of them with a hole."""
    mask = np.zeros((H, W), dtype=bool)
    mask[5:30, 10:40] = True
    mask[12:20, 18:30] = False
    mask[32:38, 45:58] = True
    return mask


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


# --- bitmaps


@pytest.mark.parametrize(
    "bitmaps, expected",
    [
        (torch.zeros(0, H, W, dtype=torch.bool), []),
        (torch.zeros(2, H, W, dtype=torch.bool), [[], []]),
    ],
)
def test_without_masks_or_pixels_there_are_no_polygons(bitmaps, expected):
    assert bitmap_polygons(bitmaps).polygons == expected


def test_outlines_of_a_bitmap_have_its_parts_and_holes():
    (found,) = bitmap_polygons(torch.from_numpy(blob())[None]).polygons
    assert len(found) == 3 and iou(filled(found), blob()) > 0.95
    areas = sorted(cv2.contourArea(p.reshape(-1, 2).astype(np.float32), True) for p in found)
    assert areas[0] < 0 < areas[2] or areas[2] > 0 > areas[0]


def test_outlines_run_through_the_centres_of_pixels():
    (found,) = bitmap_polygons(torch.ones(1, 3, 4, dtype=torch.bool)).polygons
    corners = found[0].reshape(-1, 2)
    np.testing.assert_array_equal(corners.min(0), [0.5, 0.5])
    np.testing.assert_array_equal(corners.max(0), [3.5, 2.5])


# --- annotations


def test_objects_without_a_mask_have_no_polygon():
    found = annotated_polygons([{}, {"segmentation": []}, {"segmentation": [[1, 2, 3, 4]]}])
    assert found.polygons == [[], [], []] and len(annotated_polygons([])) == 0


@pytest.mark.parametrize("counts", ["text", "bytes", "list"])
def test_annotations_are_polygons_or_rles(counts):
    encoded = coco_mask.encode(np.asfortranarray(blob(), dtype=np.uint8))
    rle = {**encoded, "counts": encoded["counts"].decode()} if counts == "text" else encoded
    if counts == "list":
        columns = blob().T.reshape(-1)
        turns = np.flatnonzero(np.diff(columns)) + 1
        rle = {"size": [H, W], "counts": np.diff([0, *turns, H * W]).tolist()}
    annotations = [{"segmentation": [SQUARE]}, {"segmentation": rle}]
    square, other = annotated_polygons(annotations).polygons
    assert [part.tolist() for part in square] == [SQUARE]
    assert iou(filled(other), blob()) > 0.95


# --- masks on boxes


def test_without_boxes_there_are_no_polygons():
    assert len(roi_polygons(torch.zeros(0, 28, 28), torch.zeros(0, 4), (H, W))) == 0


def test_probabilities_are_put_on_their_boxes_and_cut_at_a_half():
    left = torch.zeros(28, 28)
    left[:, :14] = 0.9
    left[:, 14:] = 0.4
    boxes = torch.tensor([[10.0, 5, 40, 30], [0, 0, 20, 20]])
    half, whole = roi_polygons(torch.stack([left, torch.ones(28, 28)]), boxes, (H, W)).polygons
    expected = np.zeros((H, W), dtype=bool)
    expected[5:30, 10:25] = True
    assert iou(filled(half), expected) > 0.9
    assert iou(filled(whole), np.pad(np.ones((20, 20), bool), ((0, 20), (0, 40)))) > 0.9
