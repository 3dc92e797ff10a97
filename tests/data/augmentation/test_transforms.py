"""Single transforms; test_transport.py holds pixels, masks and boxes against their matrices."""

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T

from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)

H, W = 90, 120
TURN = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]])


def affine(linear, shift=(0, 0)):
    return AffineTransform(np.column_stack([linear, shift]), H, W, fill=0)


GEOMETRY = {
    "resize": ResizeTransform(H, W, 70, 93),
    "flip": FlipTransform(W),
    "translation": affine(np.eye(2), (7.25, -3.5)),
    "rotation": affine(TURN, (20, -15)),
    "shear": affine([[1, 0.3], [-0.2, 0.94]]),
    "cutout": CutoutTransform([[3, 4, 20, 30]]),
}
every_transform = pytest.mark.parametrize("transform", GEOMETRY.values(), ids=GEOMETRY)


@every_transform
def test_nothing_stays_nothing(transform):
    assert transform.apply_coords(np.zeros((0, 2))).shape == (0, 2)
    assert transform.apply_box(np.zeros((0, 4))).shape == (0, 4)


@every_transform
@pytest.mark.parametrize("shape", [(H, W), (H, W, 1), (H, W, 3)])
def test_images_keep_type_and_channels_and_are_not_written_to(transform, shape):
    image = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    result = transform.apply_image(image)
    assert result.dtype == np.uint8 and result.shape[2:] == shape[2:]
    assert result.flags.c_contiguous
    assert not np.array_equal(result, image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(transform.apply_image(image), result)


@every_transform
def test_the_inverse_returns_points_of_the_frame_and_beyond(transform):
    points = np.array([[0.0, 0], [W, H], [33.5, 71.25], [-50, 400]])
    there = transform.apply_coords(points.copy())
    np.testing.assert_allclose(transform.inverse().apply_coords(there.copy()), points, atol=1e-9)


@every_transform
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.int64])
def test_segmentations_keep_their_type_and_gain_no_labels_but_the_fill(transform, dtype):
    labels = np.array([0, 1] if dtype is bool else [0, 7, 100])
    segmentation = np.random.RandomState(0).choice(labels, (H, W)).astype(dtype)
    result = transform.apply_segmentation(segmentation)
    assert result.dtype == dtype
    assert result.shape == transform.apply_image(segmentation.astype(np.uint8)).shape
    assert set(np.unique(result)) == set(labels)


def test_repr_names_the_parameters():
    assert "fill=9" in repr(AffineTransform(np.eye(3), H, W, fill=9))
    assert repr(CutoutTransform([[0, 0, 1, 1]], 7)).endswith("fill=7)")


# --- one by one --------------------------------------------------------------------------------


@pytest.mark.parametrize("new_size", [(45, 60), (70, 93), (90, 120), (180, 240), (1, 1)])
def test_resize_coordinates_are_detectron2s(new_size):
    ours, theirs = ResizeTransform(H, W, *new_size), T.ResizeTransform(H, W, *new_size)
    points = np.random.RandomState(0).uniform(-10, 130, (20, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        ours.apply_coords(points.copy()), theirs.apply_coords(points.copy())
    )
    assert isinstance(ours, T.ResizeTransform)
    assert isinstance(ours.inverse(), ResizeTransform)
    assert ours.inverse().apply_image(np.zeros((*new_size, 3), np.uint8)).shape == (H, W, 3)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_resized_boxes_and_polygons_keep_their_fractions(dtype):
    transform = ResizeTransform(100, 200, 137, 274)
    corners = np.array([[10, 20], [40, 51]], dtype=dtype)
    expected = [[13.7, 27.4], [54.8, 69.87]]
    np.testing.assert_allclose(transform.apply_coords(corners), expected, rtol=1e-6)
    np.testing.assert_array_equal(corners, [[10, 20], [40, 51]])
    box = transform.apply_box(corners.reshape(1, 4))
    np.testing.assert_allclose(box, np.reshape(expected, (1, 4)), rtol=1e-6)
    (polygon,) = transform.apply_polygons([corners])
    np.testing.assert_allclose(polygon, expected, rtol=1e-6)


def test_resized_images_resemble_detectron2s():
    image = np.random.RandomState(0).randint(0, 256, (9, 12, 3), dtype=np.uint8)
    image = cv2.resize(image, (W, H), interpolation=cv2.INTER_CUBIC)
    ours = ResizeTransform(H, W, 120, 160).apply_image(image)
    theirs = T.ResizeTransform(H, W, 120, 160).apply_image(image)
    assert np.abs(ours.astype(int) - theirs).max() <= 3


def test_a_segmentation_is_resized_from_the_centres_of_its_cells():
    segmentation = np.arange(9, dtype=np.uint8)[None].repeat(3, 0)
    small = ResizeTransform(3, 9, 1, 3).apply_segmentation(segmentation)
    np.testing.assert_array_equal(small, [[1, 4, 7]])


@pytest.mark.parametrize("transform", [GEOMETRY["resize"], GEOMETRY["rotation"]])
def test_an_image_of_another_size_is_refused(transform):
    with pytest.raises(ValueError, match="expected an image of"):
        transform.apply_image(np.zeros((W, H, 3), np.uint8))


def test_flip_is_detectron2s():
    image = np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        FlipTransform(W).apply_image(image), T.HFlipTransform(W).apply_image(image)
    )


def test_whole_pixel_translation_copies_pixels_and_fills_the_rest():
    image = np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)
    transform = AffineTransform([[1, 0, 4], [0, 1, -3]], H, W, fill=(10, 20, 30))
    moved = transform.apply_image(image)
    np.testing.assert_array_equal(moved[:-3, 4:], image[3:, :-4])
    assert (moved[:, :4] == (10, 20, 30)).all() and (moved[-3:] == (10, 20, 30)).all()
    labels = transform.apply_segmentation(np.full((H, W), 7, np.uint8))
    assert (labels[:-3, 4:] == 7).all() and (labels[:, :4] == 0).all()


def test_one_fill_level_reaches_every_channel():
    moved = AffineTransform([[1, 0, 5], [0, 1, 0]], 8, 8).apply_image(np.zeros((8, 8, 3), np.uint8))
    assert (moved[:, :5] == 125).all()


@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turn_is_exact(size):
    image = np.random.RandomState(0).randint(0, 256, (size, size, 3), dtype=np.uint8)
    clockwise = AffineTransform([[0, -1, size], [1, 0, 0]], size, size)
    np.testing.assert_array_equal(clockwise.apply_image(image), np.rot90(image, -1))


def test_affine_coordinates_are_the_matrix_product_in_float64():
    matrix = np.random.RandomState(0).normal(size=(3, 3))
    matrix[2] = [0, 0, 1]
    points = np.random.RandomState(1).uniform(-1e4, 1e4, (50, 2))
    expected = (np.c_[points, np.ones(50)] @ matrix.T)[:, :2]
    for given_matrix in (matrix, matrix[:2]):
        result = AffineTransform(given_matrix, H, W).apply_coords(points)
        np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (4, 4)])
def test_a_matrix_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="affine matrix"):
        AffineTransform(np.ones(shape), H, W)


def test_cutout_paints_its_rectangles_and_nothing_else():
    image = np.full((H, W, 3), 9, np.uint8)
    np.testing.assert_array_equal(CutoutTransform([]).apply_image(image), image)

    rectangles = [[2, 3, 10, 20], [110, 80, 500, 500], [-5, -5, 4, 4]]
    painted = CutoutTransform(rectangles, fill=200).apply_image(image)
    inside = np.zeros((H, W), bool)
    inside[3:20, 2:10] = inside[80:, 110:] = inside[:4, :4] = True
    assert (painted[inside] == 200).all() and (painted[~inside] == 9).all()


def test_cutout_leaves_coordinates_boxes_and_segmentations():
    cutout = CutoutTransform([[0, 0, W, H]])
    points, box = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0, 30.0, 40.0]])
    np.testing.assert_array_equal(cutout.apply_coords(points), [[1, 2]])
    np.testing.assert_array_equal(cutout.apply_box(box), [[1, 2, 30, 40]])
    np.testing.assert_array_equal(cutout.apply_segmentation(np.eye(H)), np.eye(H))
