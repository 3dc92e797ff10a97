"""Affine geometry between views: matrices of transforms, and boxes under a matrix.

All coordinates are absolute pixels, continuous: pixel ``i`` covers ``[i, i + 1)`` and an image of
height h and width w spans ``[0, w] x [0, h]``. Boxes are XYXY. A matrix is 3x3 and acts on column
vectors ``(x, y, 1)``; its last row is ``(0, 0, 1)``.

The tensor functions use elementwise arithmetic only: a matmul would run in half precision under
autocast (and in TF32 on recent GPUs), which moves boxes of large images by more than a pixel. None
of them causes a host-device sync.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "clip_boxes",
    "invert_affine",
    "nonempty",
    "transform_boxes",
    "transform_matrix",
    "transform_points",
    "weak_to_strong",
]

# Wide enough that a transform computing in float32 still yields coefficients good to 1e-3 pixel;
# a power of two, so that flips and shifts come out exact.
_PROBE_SPAN = 1024.0
_CHECK_POINT = (-517.0, 341.0)
_TOLERANCE = 1e-2


def transform_matrix(transform) -> np.ndarray:
    """The (3, 3) float64 matrix of an affine transform, found by probing ``apply_coords``.

    Args:
        transform: a Detectron2/fvcore ``Transform`` or ``TransformList``.

    Raises:
        ValueError: if a fourth probe shows that the transform is not affine.
    """
    span = _PROBE_SPAN
    points = np.array([(0, 0), (span, 0), (0, span), _CHECK_POINT], dtype=np.float64)
    origin, right, down, check = np.asarray(transform.apply_coords(points), dtype=np.float64)
    matrix = np.eye(3)
    matrix[:2] = np.stack([(right - origin) / span, (down - origin) / span, origin], axis=1)
    expected = matrix[:2] @ np.array([*_CHECK_POINT, 1.0])
    if not (np.abs(check - expected) <= _TOLERANCE).all():  # np.allclose is slow; NaN fails, too
        raise ValueError(
            f"not an affine transform: {transform} maps {_CHECK_POINT} to {check.tolist()}, "
            f"an affine map would give {expected.tolist()}"
        )
    return matrix


def weak_to_strong(weak_matrix: np.ndarray, strong_matrix: np.ndarray) -> np.ndarray:
    """The (3, 3) float64 matrix from weak-view to strong-view coordinates.

    Args:
        weak_matrix, strong_matrix: (3, 3), from the same source image to each view. Swapped, they
            give the way back.

    Raises:
        numpy.linalg.LinAlgError: if ``weak_matrix`` is singular.
    """
    weak = np.asarray(weak_matrix, dtype=np.float64)
    strong = np.asarray(strong_matrix, dtype=np.float64)
    return strong @ np.linalg.inv(weak)


def invert_affine(matrix: Tensor) -> Tensor:
    """Inverse in closed form (``torch.linalg.inv`` causes a host-device sync).

    Args:
        matrix: (..., 3, 3), at least float32. A singular one gives non-finite entries.
    """
    a, b, x, c, d, y = matrix[..., :2, :].flatten(-2).unbind(-1)
    zero = torch.zeros_like(a)
    det = a * d - b * c
    rows = [
        torch.stack([d, -b, b * y - d * x], dim=-1) / det[..., None],
        torch.stack([-c, a, c * x - a * y], dim=-1) / det[..., None],
        torch.stack([zero, zero, zero + 1], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def transform_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    """Warps boxes by an affine matrix; the result is the axis-aligned box that encloses each.

    Compose matrices first and call this once: enclosing after every step inflates the boxes.

    Args:
        boxes: (N, 4).
        matrix: (3, 3), on any device.

    Returns:
        (N, 4) on the device of ``boxes``, at least float32, not clipped.
    """
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    boxes = boxes.to(dtype)
    matrix = matrix.to(device=boxes.device, dtype=dtype)
    # The corners are {x0, x1} x {y0, y1}: the extreme of a sum is the sum of the extremes.
    along_x = boxes[:, None, 0::2] * matrix[:2, 0].view(1, 2, 1)
    along_y = boxes[:, None, 1::2] * matrix[:2, 1].view(1, 2, 1)
    low = along_x.amin(2) + along_y.amin(2) + matrix[:2, 2]
    high = along_x.amax(2) + along_y.amax(2) + matrix[:2, 2]
    return torch.cat([low, high], dim=1)


def transform_points(points: Tensor, matrix: Tensor) -> Tensor:
    """Warps points by an affine matrix.

    Args:
        points: (..., 2), XY.
        matrix: (3, 3), on the device of the points.

    Returns:
        (..., 2), at least float32.
    """
    dtype = torch.promote_types(points.dtype, torch.float32)
    x, y = points.to(dtype)[..., None].unbind(dim=-2)
    matrix = matrix.to(dtype)
    return x * matrix[:2, 0] + y * matrix[:2, 1] + matrix[:2, 2]


def clip_boxes(boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(N, 4) boxes clipped to (height, width); one outside the image has zero width or height."""
    height, width = image_size
    x = boxes[:, 0::2].clamp(0, width)
    y = boxes[:, 1::2].clamp(0, height)
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def nonempty(boxes: Tensor) -> Tensor:
    """(N,) bool: which of (N, 4) boxes have both sides above zero; False for NaN."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
