"""Segmentations: what can be used, how they travel, and masks on their boxes."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, PolygonMasks
from pycocotools import mask as mask_util
from shapes import FORMS, QUAD, as_polygon, box_of, iou, moved, raster, rle

from soft_teacher.data.masks import (
    MaskFault,
    box_probabilities,
    encoded,
    has_masks,
    image_size,
    mask_fault,
    masks_in_view,
    packed,
)

SIZE = (90, 120)
TRIANGLE = [0, 0, 9, 0, 0, 9]
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def decoded(segmentation):
    """bool (H, W) of what a stream carries."""
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, *SIZE))
    return mask_util.decode(segmentation).astype(bool)


# --- what can be used ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "segmentation, fault",
    [
        (None, "MISSING"),
        ([], "MISSING"),
        ({}, "MISSING"),
        ([[]], "POINTS"),
        ([[1, 2, 3, 4]], "POINTS"),
        ([[1, 2], [1, 2, 3, 4]], "POINTS"),
        ([[1, 2, 3, 4], TRIANGLE], None),
        ([TRIANGLE[:-1]], "ODD"),
        ([TRIANGLE, [1, 2, 3]], "ODD"),
        (TRIANGLE, "FORM"),
        ([["a"] * 6], "FORM"),
        ([[True] * 6], "FORM"),
        ([[*TRIANGLE[:-1], float("nan")]], "FORM"),
        ([[*TRIANGLE[:-1], float("-inf")]], "FORM"),
        ([[10**400] * 6], "FORM"),
        ([[[0, 0], [9, 0], [0, 9]]], "FORM"),
        ([np.array(TRIANGLE).reshape(-1, 2)], "FORM"),
        ([np.array(TRIANGLE)], None),
        ([np.array(TRIANGLE, np.float32)], None),
        ((tuple(TRIANGLE),), None),
        ("polygon", "FORM"),
        (7, "FORM"),
        ({"counts": [0, 4]}, "FORM"),
        ({"size": [2, 2]}, "FORM"),
        ({"size": [2], "counts": [0, 4]}, "FORM"),
        ({"size": [2, 2.0], "counts": [0, 4]}, "FORM"),
        ({"size": [2, 2], "counts": 3}, "FORM"),
        ({"size": [2, 2], "counts": [0, 4]}, "SIZE"),
        ({"size": [2, 2], "counts": [0, 3]}, "COUNTS"),
        ({"size": [2, 2], "counts": [5, -1]}, "COUNTS"),
        ({"size": [2, 2], "counts": [2, 2.0]}, "COUNTS"),
        ({"size": [2, 2], "counts": []}, "COUNTS"),
        ({"size": [2, 2], "counts": ""}, "COUNTS"),
        ({"size": [2, 2], "counts": "04"}, "SIZE"),
        ({"size": [2, 2], "counts": "05"}, "COUNTS"),
        ({"size": [2, 2], "counts": "0"}, "COUNTS"),
        ({"size": [2, 2], "counts": "P"}, "COUNTS"),
        ({"size": [2, 2], "counts": "0\N{SNOWMAN}"}, "COUNTS"),
        ({"size": [2, 2], "counts": "P" * 40 + "0"}, "COUNTS"),
        (np.ones((2, 2)), "SIZE"),
        (np.ones(SIZE, bool), None),
        (np.ones((3, *SIZE)), "FORM"),
    ],
)
def test_what_is_wrong_with_a_segmentation(segmentation, fault):
    assert mask_fault(segmentation, SIZE) == (fault and MaskFault[fault])


@pytest.mark.parametrize("segmentation", [{"size": [2, 2], "counts": "04"}, np.ones((2, 2))])
def test_a_mask_of_an_image_of_unknown_size_may_have_any(segmentation):
    assert mask_fault(segmentation, None) is None


def test_compressed_counts_of_any_mask_are_read_as_pycocotools_writes_them():
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(rng.integers(1, 60, 2))
        mask = np.kron(rng.random(shape) < rng.choice([0, 0.01, 0.5, 1]), np.ones((9, 5))) > 0
        found = encoded(mask)
        assert mask_fault(found, mask.shape) is None
        text = found["counts"]
        for odd in (text[:-1], f"{text}4", text.replace(text[0], "~", 1)):
            assert mask_fault({**found, "counts": odd}, mask.shape) is MaskFault.COUNTS


@pytest.mark.parametrize(
    "record, size", [({}, None), ({"height": 3}, None), ({"height": 3, "width": 4}, (3, 4))]
)
def test_the_size_of_an_image(record, size):
    assert image_size(record) == size


# --- how they travel ----------------------------------------------------------------------------


@every_form
def test_every_form_travels_as_the_same_mask(form):
    found = packed(form(QUAD, SIZE))
    assert isinstance(found, list) or isinstance(found["counts"], str)
    assert mask_fault(found, SIZE) is None
    least = 0.97 if isinstance(found, list) else 1  # pycocotools draws polygons in its own way
    assert iou(decoded(found), raster(QUAD, SIZE)) >= least
    assert packed(found) == found


def test_a_piece_without_an_area_is_left_out_and_a_usual_polygon_is_not_copied():
    usual = [TRIANGLE, TRIANGLE]
    assert packed(usual) is usual
    assert packed([[1, 2], TRIANGLE, [1, 2, 3, 4]]) == [TRIANGLE]
    assert packed([np.array(TRIANGLE), tuple(TRIANGLE)]) == [TRIANGLE, TRIANGLE]


def test_an_empty_mask_is_a_mask():
    assert not decoded(encoded(np.zeros(SIZE, bool))).any()


# --- in a view ----------------------------------------------------------------------------------

FLIP_AND_DOUBLE = T.TransformList(
    [T.HFlipTransform(SIZE[1]), T.ResizeTransform(*SIZE, 2 * SIZE[0], 2 * SIZE[1])]
)
MATRIX = np.array([[-2.0, 0, 2 * SIZE[1]], [0, 2, 0], [0, 0, 1]])
VIEW = (2 * SIZE[0], 2 * SIZE[1])
OTHER = QUAD - [20, 10]


def annotations(*segmentations):
    box = {"bbox": box_of(QUAD), "bbox_mode": 0, "category_id": 0}
    return [{**box, "segmentation": segmentation} for segmentation in segmentations]


@pytest.mark.parametrize("mask_format, kind", [("polygon", PolygonMasks), ("bitmask", BitMasks)])
def test_without_objects_there_are_no_masks(mask_format, kind):
    found = masks_in_view([], FLIP_AND_DOUBLE, VIEW, mask_format)
    assert isinstance(found, kind) and len(found) == len(found.nonempty()) == 0
    assert has_masks([], SIZE)
    assert box_probabilities(found, Boxes(torch.zeros(0, 4))).shape == (0, 1, 28, 28)


@pytest.mark.parametrize(
    "forms, mask_format, kind",
    [
        ((as_polygon, as_polygon), "polygon", PolygonMasks),
        ((as_polygon, as_polygon), "bitmask", BitMasks),
        ((as_polygon, rle), "bitmask", BitMasks),
        ((rle, as_polygon), "polygon", BitMasks),  # what holds both
    ],
)
def test_masks_are_moved_in_their_order(forms, mask_format, kind):
    given = annotations(*(form(quad, SIZE) for form, quad in zip(forms, (QUAD, OTHER))))
    before = [repr(a) for a in given]
    found = masks_in_view(given, FLIP_AND_DOUBLE, VIEW, mask_format)
    assert isinstance(found, kind) and [repr(a) for a in given] == before
    if kind is PolygonMasks:
        for quad, (polygon,) in zip((QUAD, OTHER), found.polygons, strict=True):
            np.testing.assert_allclose(polygon.reshape(-1, 2), moved(quad, MATRIX), atol=1e-9)
        found = BitMasks.from_polygon_masks(found, *VIEW)
    for quad, mask in zip((QUAD, OTHER), found.tensor.numpy(), strict=True):
        assert iou(mask, raster(moved(quad, MATRIX), VIEW)) > 0.96


@pytest.mark.parametrize(
    "segmentations, expected",
    [
        ([as_polygon(QUAD), None], False),
        ([as_polygon(QUAD), rle(QUAD, SIZE)], True),
        ([rle(QUAD, (90, 121))], False),
    ],
)
def test_whether_an_image_has_masks_of_its_size(segmentations, expected):
    assert has_masks(annotations(*segmentations), SIZE) is expected


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_probabilities_on_a_box_are_the_mask_seen_through_it(mask_format):
    masks = masks_in_view(annotations(as_polygon(QUAD)), T.TransformList([]), SIZE, mask_format)
    x0, y0, x1, y1 = box_of(QUAD)
    found = box_probabilities(masks, Boxes(torch.tensor([[x0, y0, x1, y1]])))
    assert found.shape == (1, 1, 28, 28) and found.dtype == torch.float32
    scale = np.array([28 / (x1 - x0), 28 / (y1 - y0)])
    expected = raster((QUAD - [x0, y0]) * scale, (28, 28))
    assert iou(found[0, 0].numpy() > 0.5, expected) > 0.93
