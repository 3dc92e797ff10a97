"""Moves the labeled objects of an image within it, with their masks, boxes and semantic map."""

import cv2
import numpy as np
from detectron2.structures import BoxMode

from ...utils.checks import Each, Number
from ...utils.errors import ConfigError
from ..annotations import boxed_annotations
from ..masks import SEGMENTATION, bitmap, encoded
from ..semantic_maps import IGNORED
from .transforms import AffineTransform

__all__ = ["InstancePaste"]

Range = tuple[float, float]

# Long edge of the image in which holes are filled, and pixels around a mask that are filled, too.
SMALL, BORDER = 256, 2


class InstancePaste:
    """Cuts out every labeled object, fills the holes, and pastes each near its old place.

    An object is scaled and turned about the center of its mask's box, and shifted. Small objects
    are pasted last, and masks keep what is visible. It needs masks as bitmaps and samples from the
    global ``np.random``.
    """

    def __init__(
        self,
        *,
        prob: float = 0.5,
        scale_range: Range = (0.8, 1.2),
        max_angle: float = 1.0,
        max_shift: float = 1 / 15,
    ):
        """
        Args:
            prob: chance that the objects of an image are moved.
            scale_range: of the scale, sampled for each object.
            max_angle: in degrees, to either side.
            max_shift: in widths and heights of the object, to either side.

        Raises:
            ConfigError: for ranges that are none, naming the parameter.
        """
        Number(0, 1)("InstancePaste.prob", prob)
        Each(Number(above=0), length=2)("scale_range of InstancePaste", scale_range)
        if scale_range[0] > scale_range[1]:
            raise ConfigError("scale_range of InstancePaste must have the smaller scale first")
        Number(0, 180)("max_angle of InstancePaste", max_angle)
        Number(0)("max_shift of InstancePaste", max_shift)
        self.prob = prob
        self.scale_range = tuple(scale_range)
        self.max_angle = max_angle
        self.max_shift = max_shift

    def __call__(
        self, image: np.ndarray, annotations: list[dict], labels: np.ndarray | None = None
    ) -> tuple[np.ndarray, list[dict], np.ndarray | None]:
        """
        Args:
            image: uint8 (H, W, C).
            annotations: of a dataset dict, with packed segmentations; crowds stay where they are.
            labels: semantic map of the image, uint8 (H, W); None if it has none.

        Returns:
            the same of the new image. The arguments are not changed. Objects that others cover are
            left out, and holes are ignored in the map.
        """
        if np.random.rand() >= self.prob:
            return image, annotations, labels
        objects = boxed_annotations({"annotations": annotations})
        others = [a for a in annotations if not any(a is moved for moved in objects)]
        masks = [bitmap(a[SEGMENTATION], image.shape[:2]) for a in objects]
        hole = np.logical_or.reduce(masks) if masks else np.zeros(0, bool)
        if not hole.any() or hole.all():  # nothing to move, or nothing to fill its hole with
            return image, annotations, labels
        canvas = _filled(image, hole)
        moved_labels = None if labels is None else np.where(hole, np.uint8(IGNORED), labels)
        owners = np.full(hole.shape, -1)
        for number in sorted(range(len(masks)), key=lambda n: -masks[n].sum()):
            part, matrix = self._place(masks[number])
            if part is None:
                continue
            visible, moved = _moved(matrix, part, masks[number], image, labels)
            canvas[part][visible] = moved[0][visible]
            owners[part][visible] = number
            if labels is not None:
                moved_labels[part][visible] = moved[1][visible]
        found = [_annotation(a, owners == number) for number, a in enumerate(objects)]
        return canvas, [*filter(None, found), *others], moved_labels

    def _place(self, mask: np.ndarray) -> tuple[tuple[slice, slice] | None, np.ndarray]:
        """A random place of an object.

        Returns:
            the part of the image that holds its old and its new place, None for an empty mask;
            the matrix from one to the other, in pixels of that part.
        """
        scale = np.random.uniform(*self.scale_range)
        angle = np.deg2rad(np.random.uniform(-self.max_angle, self.max_angle))
        shift = np.random.uniform(-self.max_shift, self.max_shift, 2)
        if not mask.any():
            return None, np.eye(3)
        box = _box(mask)
        (x0, y0), (x1, y1) = box
        center, size = box.mean(axis=0), box[1] - box[0]
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([(x, y) for x in (x0, x1) for y in (y0, y1)]) - center
        target = corners @ turn.T + center + shift * size
        points = np.vstack([box, np.floor(target), np.ceil(target)]).astype(int)
        low = np.maximum(points.min(axis=0), 0)
        high = np.minimum(points.max(axis=0), mask.shape[::-1])
        offset = center + shift * size - turn @ (center - low) - low
        return (slice(low[1], high[1]), slice(low[0], high[0])), np.column_stack([turn, offset])


def _moved(matrix, part, mask, image, labels):
    """An object in its new place: (h, w) mask, and there (h, w, C) pixels and (h, w) classes."""
    transform = AffineTransform(matrix, *mask[part].shape)
    pixels = transform.apply_image(np.ascontiguousarray(image[part]))
    visible = transform.apply_segmentation(mask[part].astype(np.uint8)).astype(bool)
    if labels is None:
        return visible, (pixels, None)
    # What comes from outside the part becomes 0, which must mean ignored.
    return visible, (pixels, IGNORED - transform.apply_segmentation(IGNORED - labels[part]))


def _filled(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """A copy whose hole is smoothly continued from what surrounds it, seen at a small scale."""
    wide = cv2.dilate(hole.astype(np.uint8), np.ones((2 * BORDER + 1,) * 2, np.uint8))
    factor = min(1.0, SMALL / max(hole.shape))
    size = tuple(max(round(side * factor), 1) for side in hole.shape[::-1])
    # No pixel of an object may be among what is continued.
    small_hole = (cv2.resize(wide.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0) * 1
    if small_hole.all():
        return np.where(hole[..., None], np.uint8(image[~hole].mean(axis=0)), image)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.inpaint(small, small_hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    large = cv2.resize(small, hole.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(wide[..., None] > 0, large, image)


def _box(mask: np.ndarray) -> np.ndarray:
    """((x0, y0), (x1, y1)) around the pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])


def _annotation(annotation: dict, mask: np.ndarray) -> dict | None:
    """An object with a new mask; None if nothing of it is left."""
    if not mask.any():
        return None
    found = {**annotation, SEGMENTATION: encoded(mask), "bbox_mode": BoxMode.XYXY_ABS}
    found["bbox"] = _box(mask).ravel().astype(float).tolist()
    if "area" in annotation:
        found["area"] = float(mask.sum())
    return found
