import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from soft_teacher.data.augmentation import photometric as P

ALL = [
    P.SolarizeTransform(100),
    P.BrightnessTransform(1.7),
    P.ContrastTransform(0.4),
    P.SharpnessTransform(1.6),
    P.SaturationTransform(0.3),
    P.PosterizeTransform(2),
    P.AutoContrastTransform(),
    P.EqualizeTransform(),
]
all_transforms = pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
factors = pytest.mark.parametrize("factor", [0.0, 0.1, 0.55, 1.0, 1.37, 1.9])
RANDOM = np.random.RandomState(0)
NOISE = RANDOM.randint(0, 256, (37, 53, 3), dtype=np.uint8)
# RGB: noise, a smooth picture of few levels, one flat colour.
PICTURES = {
    "noise": NOISE,
    "smooth": cv2.resize(
        RANDOM.randint(40, 180, (4, 5, 3), dtype=np.uint8), (53, 37), interpolation=cv2.INTER_CUBIC
    ),
    "flat": np.full((5, 6, 3), (30, 90, 200), dtype=np.uint8),
}
images = pytest.mark.parametrize("image", PICTURES.values(), ids=PICTURES)


def assert_like_pillow(transform, image, expected, levels=1):
    result = transform.apply_image(image)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - np.asarray(expected).astype(int)).max() <= levels


@all_transforms
@pytest.mark.parametrize("shape", [(0, 7, 3), (1, 1), (1, 1, 3), (2, 9, 1), (8, 9), (8, 9, 3)])
def test_shape_and_type_are_kept_and_the_input_is_not_written_to(transform, shape):
    image = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    result = transform.apply_image(image)
    assert result.shape == shape and result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(transform.apply_image(image), result)
    flipped = image[:, ::-1]  # a strided view
    np.testing.assert_array_equal(
        transform.apply_image(flipped), transform.apply_image(flipped.copy())
    )


@all_transforms
def test_nothing_moves_and_repr_is_the_call(transform):
    points, boxes = np.array([[1.5, 2.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    segmentation = np.array([[0, 255], [7, 1]], dtype=np.uint8)
    for tfm in (transform, transform.inverse()):
        np.testing.assert_array_equal(tfm.apply_coords(points.copy()), points)
        np.testing.assert_array_equal(tfm.apply_box(boxes.copy()), boxes)
        np.testing.assert_array_equal(tfm.apply_segmentation(segmentation.copy()), segmentation)
    assert repr(eval(repr(transform), vars(P))) == repr(transform)


@all_transforms
def test_only_uint8_is_taken(transform):
    with pytest.raises(ValueError, match="uint8"):
        transform.apply_image(np.zeros((4, 4, 3), np.float32))


EXACT = [
    *((P.SolarizeTransform(n), lambda i, n=n: ImageOps.solarize(i, n)) for n in (0, 1, 100, 256)),
    *((P.PosterizeTransform(n), lambda i, n=n: ImageOps.posterize(i, n)) for n in (1, 2, 4, 8)),
    (P.EqualizeTransform(), ImageOps.equalize),
]


@images
@pytest.mark.parametrize(
    "transform, expected", EXACT, ids=lambda t: "pillow" if callable(t) else repr(t)[:30]
)
def test_what_is_pillow_s_to_the_last_level(image, transform, expected):
    assert_like_pillow(transform, image, expected(Image.fromarray(image)), levels=0)


@images
def test_autocontrast_is_pillow_s(image):
    assert_like_pillow(
        P.AutoContrastTransform(), image, ImageOps.autocontrast(Image.fromarray(image))
    )


@images
@factors
@pytest.mark.parametrize("name", ["Brightness", "Sharpness", "Contrast", "Saturation"])
def test_enhancements_are_pillow_s_in_either_channel_order_and_of_grey_images(name, image, factor):
    transform = getattr(P, f"{name}Transform")
    enhancer = getattr(ImageEnhance, {"Saturation": "Color"}.get(name, name))
    expected = np.asarray(enhancer(Image.fromarray(image)).enhance(factor))
    orders = ("RGB", "BGR") if name in ("Contrast", "Saturation") else (None, None)
    for order, step in zip(orders, (1, -1)):
        ours = transform(factor, order) if order else transform(factor)
        assert_like_pillow(ours, np.ascontiguousarray(image[..., ::step]), expected[..., ::step])
    grey = image[..., 0].copy()
    assert_like_pillow(transform(factor), grey, enhancer(Image.fromarray(grey)).enhance(factor))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: P.PosterizeTransform(0), "between 1 and 8"),
        (lambda: P.PosterizeTransform(9), "between 1 and 8"),
        (lambda: P.ContrastTransform(0.5, "HSV"), "BGR"),
        (lambda: P.SaturationTransform(0.5, "HSV"), "BGR"),
    ],
)
def test_impossible_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
