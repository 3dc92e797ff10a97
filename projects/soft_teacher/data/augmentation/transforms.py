"""Deterministic geometric transforms, and cutout, of uint8 images through OpenCV.

Coordinates are absolute pixels (x, y), continuous: pixel ``i`` covers ``[i, i + 1)``. OpenCV puts
pixel centres at integers instead, so an image is warped by the matrix seen from there. Images are
(H, W, C) or (H, W); segmentations are sampled to the nearest pixel, never blended, and are 0 where
an image ends.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data.transforms import HFlipTransform, NoOpTransform
from detectron2.data.transforms import ResizeTransform as Detectron2ResizeTransform
from detectron2.data.transforms import Transform

__all__ = [
    "AffineTransform",
    "CutoutTransform",
    "FlipTransform",
    "ResizeTransform",
    "UnmovedTransform",
]


def _check_size(image: np.ndarray, h: int, w: int) -> None:
    if image.shape[:2] != (h, w):
        raise ValueError(f"expected an image of {(h, w)} pixels (H, W), got {image.shape[:2]}")


def _with_channels(result: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Give back the channel axis of length one that OpenCV drops."""
    return result.reshape(result.shape[:2] + image.shape[2:])


def _nearest(segmentation: np.ndarray, warp) -> np.ndarray:
    """Apply ``warp``, an OpenCV call, to a segmentation of any integer or bool type."""
    exact = np.uint8 if segmentation.dtype in (np.uint8, bool) else np.float64
    result = warp(segmentation.astype(exact, copy=False))
    return result.astype(segmentation.dtype, copy=False)


class ResizeTransform(Detectron2ResizeTransform):
    """Detectron2's ``ResizeTransform`` with the image sampled by OpenCV, some ten times faster.

    Coordinates are exactly Detectron2's, but integers become floats where it would cut off their
    fractions. Unlike Pillow, bilinear sampling here does not average over the pixels that a strong
    reduction skips.

    Args:
        h, w: size of the input in pixels.
        new_h, new_w: size of the output.
        interp: an OpenCV interpolation flag.
    """

    def __init__(self, h: int, w: int, new_h: int, new_w: int, interp: int = cv2.INTER_LINEAR):
        super().__init__(h, w, new_h, new_w, interp)

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Resize; ``ValueError`` if the image is not of the declared size."""
        _check_size(img, self.h, self.w)
        flag = self.interp if interp is None else interp
        resized = cv2.resize(img, (self.new_w, self.new_h), interpolation=flag)
        return _with_channels(resized, img)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        # The plain INTER_NEAREST takes the corner of a source cell, this one its centre.
        return _nearest(segmentation, lambda s: self.apply_image(s, cv2.INTER_NEAREST_EXACT))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        # A COCO file may give boxes and polygons as integers, and they arrive as such.
        return super().apply_coords(coords.astype(np.result_type(coords, np.float32)))

    def inverse(self) -> "ResizeTransform":
        return ResizeTransform(self.new_h, self.new_w, self.h, self.w, self.interp)


class FlipTransform(HFlipTransform):
    """Detectron2's horizontal flip, returning a contiguous image instead of a strided view."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return _with_channels(cv2.flip(img, 1), img)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(segmentation, axis=1))


class AffineTransform(Transform):
    """Warp by an affine matrix inside a frame of constant size (rotate, shear, translate).

    Args:
        matrix: (2, 3) or (3, 3), input coordinates to output coordinates (x, y), absolute pixels.
        h, w: size of the frame.
        fill: grey level, or one per channel, of what comes from outside the image.

    Raises:
        ValueError: for a matrix of another shape, or an image of another size.
    """

    def __init__(
        self,
        matrix: np.ndarray,
        h: int,
        w: int,
        fill: float | Sequence[float] = 125,
    ):
        super().__init__()
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.shape not in ((2, 3), (3, 3)):
            raise ValueError(f"an affine matrix is (2, 3) or (3, 3), not {matrix.shape}")
        self.matrix = matrix[:2]
        self.h, self.w, self.fill = h, w, fill

    def _warp(self, image: np.ndarray, interp: int, fill) -> np.ndarray:
        linear, shift = self.matrix[:, :2], self.matrix[:, 2]
        # The same map between pixel centres, which OpenCV counts from 0 rather than from 0.5.
        centre_shift = shift + linear @ (0.5, 0.5) - 0.5
        border = np.ravel(fill).tolist()
        return cv2.warpAffine(
            image,
            np.column_stack([linear, centre_shift]),
            (self.w, self.h),
            flags=interp,
            borderMode=cv2.BORDER_CONSTANT,
            # OpenCV would take a lone number for the first channel only.
            borderValue=border if len(border) > 1 else border * 4,
        )

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        _check_size(img, self.h, self.w)
        if img.dtype == np.uint8 and img.shape[2:] == (3,):
            # Through four channels: the same pixels, in half of the time OpenCV 5 takes for three.
            four = cv2.cvtColor(img, cv2.COLOR_BGR2BGRA)
            return cv2.cvtColor(self._warp(four, cv2.INTER_LINEAR, self.fill), cv2.COLOR_BGRA2BGR)
        return _with_channels(self._warp(img, cv2.INTER_LINEAR, self.fill), img)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        _check_size(segmentation, self.h, self.w)
        return _nearest(segmentation, lambda s: self._warp(s, cv2.INTER_NEAREST, 0))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Map an (N, 2) array exactly, inside the frame or not; at least float64 comes back."""
        return np.asarray(coords, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> "AffineTransform":
        """The exact inverse map of coordinates; what left the frame is not restored."""
        linear = np.linalg.inv(self.matrix[:, :2])
        matrix = np.column_stack([linear, -linear @ self.matrix[:, 2]])
        return AffineTransform(matrix, self.h, self.w, self.fill)


class UnmovedTransform(Transform):
    """Base of transforms that change pixels alone: coordinates, boxes and segmentations stay."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        return box

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


class CutoutTransform(UnmovedTransform):
    """Paint rectangles over the image.

    Args:
        rectangles: (K, 4) integers XYXY, absolute pixels, K may be 0.
        fill: grey level, or one per channel.
    """

    def __init__(self, rectangles: np.ndarray, fill: float | Sequence[float] = 125):
        super().__init__()
        self.rectangles = np.asarray(rectangles, dtype=int).reshape(-1, 4)
        self.fill = fill

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        # A copy, since both views of an unlabeled image may start from the same array.
        img = img.copy()
        for x0, y0, x1, y1 in np.maximum(self.rectangles, 0):
            img[y0:y1, x0:x1] = self.fill
        return img
