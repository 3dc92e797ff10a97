import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from hypothesis import given, settings
from hypothesis import strategies as st

from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)
from soft_teacher.geometry import transform_matrix

H, W = 90, 120
NO_POINTS = np.zeros((0, 2))
NO_BOXES = np.zeros((0, 4))


def turn(degrees):
    radians = np.deg2rad(degrees)
    return np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])


def about_centre(linear):
    centre = np.array([W, H]) / 2
    return AffineTransform(np.column_stack([linear, centre - linear @ centre]), H, W, fill=0)


def rotation(degrees):
    return about_centre(turn(degrees))


def shear(along_x, along_y):
    return about_centre(np.array([[1, 0], [along_y, 1]]) @ [[1, along_x], [0, 1]])


def translation(x, y):
    return AffineTransform([[1, 0, x], [0, 1, y]], H, W, fill=0)


def resize(short_edge):
    return ResizeTransform(H, W, short_edge, round(short_edge * W / H))


GEOMETRY = {
    "resize": resize(70),
    "flip": FlipTransform(W),
    "translation": translation(7.25, -3.5),
    "rotation": rotation(20),
    "shear": shear(0.3, -0.2),
    "cutout": CutoutTransform([[3, 4, 20, 30]]),
}


@pytest.mark.parametrize("transform", GEOMETRY.values(), ids=GEOMETRY.keys())
def test_nothing_stays_nothing(transform):
    assert transform.apply_coords(NO_POINTS.copy()).shape == (0, 2)
    assert transform.apply_box(NO_BOXES.copy()).shape == (0, 4)


@pytest.mark.parametrize("transform", GEOMETRY.values(), ids=GEOMETRY.keys())
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


@pytest.mark.parametrize("transform", GEOMETRY.values(), ids=GEOMETRY.keys())
def test_the_inverse_returns_points_of_the_frame_and_beyond(transform):
    points = np.array([[0.0, 0], [W, H], [33.5, 71.25], [-50, 400]])
    there = transform.apply_coords(points.copy())
    np.testing.assert_allclose(transform.inverse().apply_coords(there.copy()), points, atol=1e-9)


@pytest.mark.parametrize("transform", GEOMETRY.values(), ids=GEOMETRY.keys())
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


# --- the image and the boxes stay together ---------------------------------------------------


def drawn(box):
    image = np.zeros((H, W), dtype=np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = 255
    return image


def centroid(image):
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(xs * image).sum(), (ys * image).sum()]) / image.sum(dtype=float)


def extent(image):
    ys, xs = np.nonzero(image >= 64)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def assert_box_stays_on_its_pixels(transform, box, centre_error):
    expected = transform.apply_box(np.array([box], dtype=float))[0]
    image = transform.apply_image(drawn(box))
    # An affine map carries centroids to centroids: a half pixel of offset would show here.
    matrix = transform_matrix(transform)
    centre = matrix[:2] @ [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1]
    np.testing.assert_allclose(centroid(image), centre, atol=centre_error)
    np.testing.assert_allclose(extent(image), expected, atol=1)


# Central, so that no operation below pushes any of it out of the frame.
boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(45, 55),
    st.integers(32, 40),
    st.integers(12, 22),
    st.integers(12, 18),
)
operations = {
    "translation": st.builds(translation, st.floats(-12, 12), st.floats(-9, 9)),
    "rotation": st.builds(rotation, st.floats(-30, 30)),
    "shear": st.builds(shear, st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
    "flip": st.just(FlipTransform(W)),
    "resize": st.builds(resize, st.integers(60, 180)),
}


@pytest.mark.parametrize("name", operations)
@given(data=st.data(), box=boxes)
@settings(max_examples=60, deadline=None)
def test_a_drawn_box_stays_on_its_pixels(name, data, box):
    # A reduction skips source pixels, and an edge with them.
    centre_error = 0.2 if name == "resize" else 0.05
    assert_box_stays_on_its_pixels(data.draw(operations[name]), box, centre_error)


@given(
    box=boxes,
    translate=operations["translation"],
    rotate=operations["rotation"],
    flip=st.booleans(),
    short_edge=st.integers(60, 180),
)
@settings(max_examples=100, deadline=None)
def test_a_drawn_box_stays_on_its_pixels_through_a_chain(box, translate, rotate, flip, short_edge):
    chain = T.TransformList([FlipTransform(W)] * flip + [translate, rotate, resize(short_edge)])
    image = chain.apply_image(drawn(box))
    matrix = transform_matrix(chain)
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], dtype=float)
    moved = chain.apply_coords(corners)
    centre = matrix[:2] @ [(x0 + x1) / 2, (y0 + y1) / 2, 1]
    pixel = max(1.0, short_edge / H)
    np.testing.assert_allclose(centroid(image), centre, atol=0.2 * pixel)
    np.testing.assert_allclose(extent(image), [*moved.min(0), *moved.max(0)], atol=1.2 * pixel)


@pytest.mark.parametrize("name", ["translation", "rotation", "shear"])
def test_segmentation_and_image_are_moved_alike(name):
    box = (45, 32, 67, 50)
    transform = GEOMETRY[name]
    as_image = transform.apply_image(drawn(box))
    as_mask = transform.apply_segmentation(drawn(box))
    sure = (as_image < 64) | (as_image > 192)
    np.testing.assert_array_equal(as_mask[sure] > 0, as_image[sure] > 128)


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


@pytest.mark.parametrize("transform", [ResizeTransform(H, W, 9, 12), rotation(3)])
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
    transform = AffineTransform([[1, 0, 4], [0, 1, -3]], H, W, fill=(10, 20, 30), seg_fill=255)
    moved = transform.apply_image(image)
    np.testing.assert_array_equal(moved[:-3, 4:], image[3:, :-4])
    assert (moved[:, :4] == (10, 20, 30)).all() and (moved[-3:] == (10, 20, 30)).all()
    labels = transform.apply_segmentation(np.zeros((H, W), np.uint8))
    assert (labels[:-3, 4:] == 0).all() and (labels[:, :4] == 255).all()


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
    np.testing.assert_array_equal(
        cutout.apply_segmentation(drawn((1, 2, 3, 4))), drawn((1, 2, 3, 4))
    )
