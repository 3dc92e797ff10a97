"""Pixels, masks, polygons and boxes stay together through whole policies and both views.

The oracle samples an image by a transform's declared matrix, in numpy and in double precision.
"""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from soft_teacher.data.augmentation import spatial as A
from soft_teacher.data.augmentation.photometric import PhotometricTransform
from soft_teacher.data.augmentation.policies import NAMES, VARIANTS, build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)
from soft_teacher.data.mapper import TwoViewDatasetMapper
from soft_teacher.geometry import transform_boxes, transform_matrix

# The grey that augmentations fill with, and a box that is brighter.
GREY, BRIGHT = 125, 245
# OpenCV rounds a sampling position to 1/32 pixel: up to 1/64 wrong on either axis.
LEVELS = 1.5 + 2 * BRIGHT / 64
STEADY = (T.NoOpTransform, CutoutTransform, PhotometricTransform)

seeds = st.integers(0, 2**32 - 1)
sides = st.one_of(st.integers(1, 3), st.integers(4, 70))
every_policy = pytest.mark.parametrize(
    "name, variant", [(name, variant) for name in NAMES for variant in VARIANTS]
)
quick = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def boxes_in_images(draw):
    """(height, width) and an integer box XYXY of at least one pixel in it."""
    size = h, w = draw(sides), draw(sides)
    x0, y0 = draw(st.integers(0, w - 1)), draw(st.integers(0, h - 1))
    x1, y1 = draw(st.integers(x0 + 1, w)), draw(st.integers(y0 + 1, h))
    return size, (x0, y0, x1, y1)


def painted(size, box, background=0):
    image = np.full(size, background, dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = BRIGHT
    return image


# --- the oracle -------------------------------------------------------------------------------


def declared(transform):
    """The 3x3 matrix that a transform's own parameters say, and its output's (height, width)."""
    if isinstance(transform, ResizeTransform):
        scale = transform.new_w / transform.w, transform.new_h / transform.h
        return np.diag([*scale, 1]), (transform.new_h, transform.new_w)
    if isinstance(transform, FlipTransform):
        return np.array([[-1, 0, transform.width], [0, 1, 0], [0, 0, 1]]), None
    return np.vstack([transform.matrix, [0, 0, 1]]), (transform.h, transform.w)


def sources(matrix, size):
    """Where the centres of the output's pixels come from: x and y, continuous."""
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    inverse = np.linalg.inv(matrix)
    return np.tensordot(inverse[:2], [xs, ys, np.ones(size)], axes=1)


def pixels(image, xs, ys, fill):
    """image[y, x]; outside, ``fill`` or the nearest pixel."""
    h, w = image.shape
    values = image[np.clip(ys, 0, h - 1), np.clip(xs, 0, w - 1)].astype(float)
    outside = (xs < 0) | (xs >= w) | (ys < 0) | (ys >= h)
    return values if fill is None else np.where(outside, fill, values)


def bilinear(image, x, y, fill):
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    right, down = x - 0.5 - left, y - 0.5 - top
    rows = [
        (1 - right) * pixels(image, left, top + n, fill)
        + right * pixels(image, left + 1, top + n, fill)
        for n in (0, 1)
    ]
    return (1 - down) * rows[0] + down * rows[1]


def follow(transforms, image):
    """Applies what moves pixels, each step compared with the oracle; returns image and matrix."""
    total = np.eye(3)
    for transform in (t for t in transforms if not isinstance(t, STEADY)):
        matrix, size = declared(transform)
        x, y = sources(matrix, size or image.shape)
        fill = transform.fill if isinstance(transform, AffineTransform) else None
        moved = transform.apply_image(image)
        np.testing.assert_allclose(moved, bilinear(image, x, y, fill), rtol=0, atol=LEVELS)
        image, total = moved, matrix @ total
    return image, total


def follow_mask(transforms, mask):
    """The same for a segmentation: nearest pixel, 0 outside. Pixels at a tie may go either way."""
    for transform in transforms:
        moved = transform.apply_segmentation(mask)
        if isinstance(transform, STEADY):
            np.testing.assert_array_equal(moved, mask)
            continue
        matrix, size = declared(transform)
        x, y = sources(matrix, size or mask.shape)
        sure = (np.abs(x - np.rint(x)) > 0.05) & (np.abs(y - np.rint(y)) > 0.05)
        fill = 0 if isinstance(transform, AffineTransform) else None
        expected = pixels(mask, np.floor(x).astype(int), np.floor(y).astype(int), fill)
        np.testing.assert_array_equal(moved[sure], expected[sure])
        mask = moved
    return mask


def corners(box):
    x0, y0, x1, y1 = box
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float)


def moved_by(points, matrix):
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def run(policy, size):
    """The flat list of transforms that a policy samples for an image of this size."""
    image = np.random.randint(0, 256, (*size, 3), dtype=np.uint8)
    return T.AugmentationList(policy)(T.AugInput(image))


def test_the_oracle_itself():
    image = np.array([[10, 20, 30]], dtype=np.uint8)
    x, y = sources(np.array([[1, 0, 0.5], [0, 1, 0], [0, 0, 1]]), (1, 3))
    np.testing.assert_allclose(x, [[0, 1, 2]])
    np.testing.assert_allclose(bilinear(image, x, y, 0), [[5, 15, 25]])
    np.testing.assert_allclose(bilinear(image, x, y, None), [[10, 15, 25]])


# --- every operation --------------------------------------------------------------------------

GEOMETRY = {
    "scale": A.ShortEdgeScaleJitter(30, 80),
    "integer scale": A.ShortEdgeScaleJitter(30, 80, integer=True),
    "flip": A.RandomHorizontalFlip(prob=1.0),
    "translation": A.RandomTranslation(prob=1.0),
    "rotation": A.RandomRotate(prob=1.0),
    "shear": A.RandomShear(prob=1.0),
    "tanh shear": A.RandomShear(prob=1.0, slope="tanh"),
    "cutout": A.RandomCutout(),
}


@pytest.mark.parametrize("name", GEOMETRY)
@given(case=boxes_in_images(), seed=seeds)
@quick
def test_a_drawn_box_stays_on_its_pixels(name, case, seed):
    np.random.seed(seed)
    size, box = case
    transform = GEOMETRY[name].get_transform(np.zeros((*size, 3), np.uint8))
    image, matrix = follow([transform], painted(size, box, GREY))
    np.testing.assert_allclose(transform.apply_coords(corners(box)), moved_by(corners(box), matrix))

    # A pixel that shows more of the box than of the rest has its centre inside.
    enclosing = transform_boxes(torch.tensor([box]), torch.from_numpy(matrix))[0].tolist()
    ys, xs = np.nonzero(image > (GREY + BRIGHT) / 2 + LEVELS)
    assert np.all((xs + 0.5 > enclosing[0]) & (xs + 0.5 < enclosing[2]))
    assert np.all((ys + 0.5 > enclosing[1]) & (ys + 0.5 < enclosing[3]))


# --- whole policies ---------------------------------------------------------------------------


@every_policy
@given(case=boxes_in_images(), seed=seeds, short_edge=st.integers(1, 48))
@quick
def test_pixels_masks_polygons_and_boxes_go_the_same_way(name, variant, case, seed, short_edge):
    np.random.seed(seed)
    size, box = case
    transforms = run(build_policy(name, variant, short_edge=short_edge, max_size=64), size)
    image, expected = follow(transforms.transforms, painted(size, box))
    mask = follow_mask(transforms.transforms, painted(size, box))
    assert image.shape == mask.shape == transforms.apply_image(np.zeros(size, np.uint8)).shape
    np.testing.assert_array_equal(transforms.apply_segmentation(painted(size, box)), mask)

    moved = moved_by(corners(box), expected)
    (polygon,) = transforms.apply_polygons([corners(box)])
    np.testing.assert_allclose(polygon, moved, rtol=1e-9, atol=1e-9)
    matrix = transform_matrix(transforms)
    np.testing.assert_allclose(matrix, expected, rtol=1e-6, atol=1e-6)
    enclosing = transform_boxes(torch.tensor([box]).double(), torch.from_numpy(matrix))
    np.testing.assert_allclose(enclosing, [[*moved.min(0), *moved.max(0)]], rtol=1e-6, atol=1e-6)


# --- from the weak to the strong view ---------------------------------------------------------


class OnlyGeometry(T.Augmentation):
    """Samples a whole policy and applies only what moves pixels."""

    def __init__(self, policy):
        self.policy = T.AugmentationList(policy)

    def __call__(self, aug_input):
        sampled = self.policy(T.AugInput(aug_input.image)).transforms
        self.transforms = T.TransformList([t for t in sampled if not isinstance(t, STEADY)])
        aug_input.transform(self.transforms)
        return self.transforms


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    return tmp_path_factory.mktemp("views") / "image.png"


@pytest.mark.parametrize("variant", VARIANTS)
@given(case=boxes_in_images(), seed=seeds, short_edge=st.integers(1, 48))
@quick
def test_both_views_and_their_matrix_at_any_size(png, variant, case, seed, short_edge):
    np.random.seed(seed)
    image = painted(*case)
    Image.fromarray(image).save(png)
    weak, strong = (
        OnlyGeometry(build_policy(name, variant, short_edge=short_edge, max_size=64))
        for name in ("weak", "strong")
    )
    mapper = TwoViewDatasetMapper(
        weak_augmentations=[weak], strong_augmentations=[strong], image_format="BGR"
    )
    sample = mapper({"file_name": str(png)})
    weak_image, to_weak = follow(weak.transforms.transforms, image)
    strong_image, to_strong = follow(strong.transforms.transforms, image)
    np.testing.assert_array_equal(sample["weak_image"][0], weak_image)
    np.testing.assert_array_equal(sample["image"][0], strong_image)
    in_weak, in_strong = (moved_by(corners(case[1]), m) for m in (to_weak, to_strong))
    there = moved_by(in_weak, sample["weak_to_strong"].double().numpy())
    np.testing.assert_allclose(there, in_strong, rtol=1e-5, atol=1e-3)
