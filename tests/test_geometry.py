"""Matrices of transforms, and boxes under them, against float64 and Detectron2's transforms."""

import numpy as np
import pytest
import torch
from by_hand import rotation, warp
from detectron2.data import transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st

from soft_teacher.geometry import (
    clip_boxes,
    invert_affine,
    nonempty,
    transform_boxes,
    transform_matrix,
    transform_points,
    weak_to_strong,
)

BOXES = np.array([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 640.0, 480.0], [5.5, 7.25, 6.5, 470.0]])
TRANSFORMS = {
    "nothing": (T.TransformList([]), np.eye(3)),
    "flip": (T.HFlipTransform(640), [[-1, 0, 640], [0, 1, 0], [0, 0, 1]]),
    "resize": (T.ResizeTransform(480, 640, 320, 427), np.diag([427 / 640, 320 / 480, 1])),
    "crop": (T.CropTransform(12, 34, 100, 100), [[1, 0, -12], [0, 1, -34], [0, 0, 1]]),
    # Detectron2 turns counter-clockwise as seen.
    "rotation": (T.RotationTransform(480, 640, 30, expand=False), rotation(-30, (320, 240))),
    "flip, then resize": (
        T.TransformList([T.HFlipTransform(640), T.ResizeTransform(480, 640, 960, 1280)]),
        [[-2, 0, 1280], [0, 2, 0], [0, 0, 1]],
    ),
    "crop and scale, in float32": (
        T.ExtentTransform((100, 50, 300, 450), (800, 400)),
        [[2, 0, -200], [0, 2, -100], [0, 0, 1]],
    ),
}


def float_boxes(rows):
    return torch.tensor(np.reshape(rows, (-1, 4)), dtype=torch.float32)


@pytest.mark.parametrize("transform, expected", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_matrix_of_a_transform(transform, expected):
    matrix = transform_matrix(transform)
    assert matrix.dtype == np.float64 and matrix.shape == (3, 3)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-4)


def test_a_transform_computing_in_float32_is_exact_across_a_large_image():
    left, top, right, bottom = rectangle = (100.3, 50.7, 310.1, 470.9)
    matrix = transform_matrix(T.ExtentTransform(rectangle, (811, 397)))
    far = np.array([1333.0, 1333.0])
    expected = (far - (left, top)) * (397 / (right - left), 811 / (bottom - top))
    np.testing.assert_allclose(matrix[:2] @ [*far, 1], expected, rtol=0, atol=2e-3)


def test_a_transform_that_is_not_affine_is_refused():
    class Bend(T.NoOpTransform):
        def apply_coords(self, coords):
            return coords + 1e-4 * coords[:, :1] * coords[:, 1:]

    with pytest.raises(ValueError, match="not an affine transform"):
        transform_matrix(Bend())


@pytest.mark.parametrize("boxes", [[], BOXES[:1], BOXES], ids=len)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_boxes_under_a_matrix_enclose_their_four_corners(boxes, name):
    matrix = transform_matrix(TRANSFORMS[name][0])
    result = transform_boxes(float_boxes(boxes), torch.as_tensor(matrix))
    assert result.dtype == torch.float32 and result.shape == (len(boxes), 4)
    np.testing.assert_allclose(result, warp(boxes, matrix), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 4)], ids=str)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_points_under_a_matrix(shape, name):
    matrix = transform_matrix(TRANSFORMS[name][0])
    points = np.random.default_rng(0).uniform(0, 600, (*shape, 2))
    result = transform_points(torch.tensor(points).float(), torch.as_tensor(matrix).float())
    expected = points @ matrix[:2, :2].T + matrix[:2, 2]
    assert result.dtype == torch.float32 and result.shape == (*shape, 2)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3)


def test_identity_leaves_every_bit_of_a_box():
    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)) * 1333
    boxes = boxes.sort(1).values
    assert torch.equal(transform_boxes(boxes, torch.eye(3)), boxes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.float64])
def test_boxes_are_never_computed_below_float32(dtype):
    boxes = torch.tensor([[1, 2, 3, 4]], dtype=dtype)
    computed = torch.float64 if dtype == torch.float64 else torch.float32
    assert transform_boxes(boxes, torch.eye(3)).dtype == computed


def test_autocast_does_not_coarsen_boxes():
    boxes = torch.tensor([[1001.25, 3.0, 1300.75, 700.5]])
    matrix = torch.tensor([[1.0, 0, 0.25], [0, 1, 0], [0, 0, 1]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = transform_boxes(boxes, matrix)
        points = transform_points(boxes.view(2, 2), matrix)
        inverse = invert_affine(matrix)
    assert torch.equal(result, torch.tensor([[1001.5, 3.0, 1301.0, 700.5]]))
    assert torch.equal(points.view(1, 4), result)
    assert torch.equal(inverse[:2, 2], torch.tensor([-0.25, 0.0]))


@given(
    degrees=st.floats(-30, 30),
    weak_scale=st.floats(0.4, 1.5),
    strong_scale=st.floats(0.4, 1.5),
    flips=st.tuples(st.booleans(), st.booleans()),
)
@settings(deadline=None)
def test_points_go_to_the_strong_view_and_back(degrees, weak_scale, strong_scale, flips):
    def view(scale, flip, angle):
        new_h, new_w = round(480 * scale), round(640 * scale)
        steps = [T.HFlipTransform(640)] * flip + [T.ResizeTransform(480, 640, new_h, new_w)]
        return T.TransformList(steps + [T.RotationTransform(new_h, new_w, angle, expand=False)])

    weak, strong = view(weak_scale, flips[0], 0), view(strong_scale, flips[1], degrees)
    weak_matrix, strong_matrix = transform_matrix(weak), transform_matrix(strong)
    forward = weak_to_strong(weak_matrix, strong_matrix)
    backward = weak_to_strong(strong_matrix, weak_matrix)
    np.testing.assert_allclose(forward @ backward, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(invert_affine(torch.as_tensor(forward)), backward, atol=1e-9)

    source = np.array([[0.0, 0.0], [640, 480], [17, 333]])
    there = np.c_[weak.apply_coords(source.copy()), np.ones(3)] @ forward.T
    np.testing.assert_allclose(there[:, :2], strong.apply_coords(source.copy()), atol=1e-6)


@pytest.mark.parametrize(
    "boxes, expected",
    [
        ([], []),
        ([[1, 2, 3, 4]], [[1, 2, 3, 4]]),
        ([[-5, -6, 200, 300]], [[0, 0, 100, 50]]),
        ([[120, 10, 130, 20]], [[100, 10, 100, 20]]),
    ],
)
def test_clipping_to_height_and_width(boxes, expected):
    boxes = float_boxes(boxes)
    before = boxes.clone()
    assert torch.equal(clip_boxes(boxes, (50, 100)), float_boxes(expected))
    assert torch.equal(boxes, before)


@pytest.mark.parametrize(
    "boxes, expected",
    [
        ([], []),
        ([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0], [2, 2, 1, 1]], [True] + [False] * 3),
        ([[0, 0, np.nan, 1]], [False]),
    ],
)
def test_which_boxes_have_an_extent(boxes, expected):
    assert nonempty(float_boxes(boxes)).tolist() == expected
