import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from soft_teacher.data.augmentation.photometric import (
    AutoContrastTransform,
    BrightnessTransform,
    ContrastTransform,
    EqualizeTransform,
    PosterizeTransform,
    SaturationTransform,
    SharpnessTransform,
    SolarizeTransform,
)

ALL = [
    SolarizeTransform(100),
    BrightnessTransform(1.7),
    ContrastTransform(0.4),
    SharpnessTransform(1.6),
    SaturationTransform(0.3),
    PosterizeTransform(2),
    AutoContrastTransform(),
    EqualizeTransform(),
]
all_transforms = pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
factors = pytest.mark.parametrize("factor", [0.0, 0.1, 0.55, 1.0, 1.37, 1.9])


def pictures():
    """RGB: noise, a smooth picture of few levels, one flat colour."""
    random = np.random.RandomState(0)
    noise = random.randint(0, 256, (37, 53, 3), dtype=np.uint8)
    seeds = random.randint(40, 180, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(seeds, (53, 37), interpolation=cv2.INTER_CUBIC)
    flat = np.full((5, 6, 3), (30, 90, 200), dtype=np.uint8)
    return {"noise": noise, "smooth": smooth, "flat": flat}


images = pytest.mark.parametrize("image", pictures().values(), ids=pictures().keys())


def assert_like_pillow(result, pillow_image, levels=1):
    assert result.dtype == np.uint8
    difference = np.abs(result.astype(int) - np.asarray(pillow_image).astype(int))
    assert difference.max() <= levels


@all_transforms
@pytest.mark.parametrize("shape", [(0, 7, 3), (1, 1), (1, 1, 3), (2, 9, 1), (8, 9), (8, 9, 3)])
def test_shape_and_type_are_kept_and_the_input_is_not_written_to(transform, shape):
    image = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    result = transform.apply_image(image)
    assert result.shape == shape and result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(transform.apply_image(image), result)


@all_transforms
def test_repr_is_the_call_that_makes_it(transform):
    assert repr(eval(repr(transform))) == repr(transform)


@all_transforms
def test_nothing_moves(transform):
    points, boxes = np.array([[1.5, 2.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    segmentation = np.array([[0, 255], [7, 1]], dtype=np.uint8)
    for tfm in (transform, transform.inverse()):
        np.testing.assert_array_equal(tfm.apply_coords(points.copy()), points)
        np.testing.assert_array_equal(tfm.apply_box(boxes.copy()), boxes)
        np.testing.assert_array_equal(tfm.apply_segmentation(segmentation.copy()), segmentation)


@all_transforms
def test_strided_views_are_read_correctly(transform):
    image = pictures()["noise"]
    flipped = image[:, ::-1]
    np.testing.assert_array_equal(
        transform.apply_image(flipped), transform.apply_image(flipped.copy())
    )


@all_transforms
def test_only_uint8_is_taken(transform):
    with pytest.raises(ValueError, match="uint8"):
        transform.apply_image(np.zeros((4, 4, 3), np.float32))


@images
@pytest.mark.parametrize("threshold", [0, 1, 100, 255, 256])
def test_solarize_is_pillows(image, threshold):
    expected = ImageOps.solarize(Image.fromarray(image), threshold)
    assert_like_pillow(SolarizeTransform(threshold).apply_image(image), expected, levels=0)


@images
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_posterize_is_pillows(image, bits):
    expected = ImageOps.posterize(Image.fromarray(image), bits)
    assert_like_pillow(PosterizeTransform(bits).apply_image(image), expected, levels=0)


@images
def test_autocontrast_is_pillows(image):
    expected = ImageOps.autocontrast(Image.fromarray(image))
    assert_like_pillow(AutoContrastTransform().apply_image(image), expected)


@images
def test_equalize_is_pillows(image):
    expected = ImageOps.equalize(Image.fromarray(image))
    assert_like_pillow(EqualizeTransform().apply_image(image), expected, levels=0)


@images
@factors
def test_brightness_is_pillows(image, factor):
    expected = ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor)
    assert_like_pillow(BrightnessTransform(factor).apply_image(image), expected)


@images
@factors
def test_sharpness_is_pillows(image, factor):
    expected = ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor)
    assert_like_pillow(SharpnessTransform(factor).apply_image(image), expected)


@images
@factors
@pytest.mark.parametrize(
    "transform, enhancer",
    [(ContrastTransform, ImageEnhance.Contrast), (SaturationTransform, ImageEnhance.Color)],
)
def test_contrast_and_saturation_are_pillows_in_either_channel_order(
    image, factor, transform, enhancer
):
    expected = np.asarray(enhancer(Image.fromarray(image)).enhance(factor))
    assert_like_pillow(transform(factor, "RGB").apply_image(image), expected)
    bgr = np.ascontiguousarray(image[..., ::-1])
    assert_like_pillow(transform(factor, "BGR").apply_image(bgr), expected[..., ::-1])


@pytest.mark.parametrize(
    "transform, enhancer",
    [
        (BrightnessTransform, ImageEnhance.Brightness),
        (ContrastTransform, ImageEnhance.Contrast),
        (SharpnessTransform, ImageEnhance.Sharpness),
    ],
)
@factors
def test_grey_images_are_enhanced_as_pillow_does(transform, enhancer, factor):
    image = pictures()["noise"][..., 0].copy()
    expected = enhancer(Image.fromarray(image)).enhance(factor)
    assert_like_pillow(transform(factor).apply_image(image), expected)


@pytest.mark.parametrize("bits", [0, 9])
def test_posterize_refuses_other_numbers_of_bits(bits):
    with pytest.raises(ValueError, match="between 1 and 8"):
        PosterizeTransform(bits)


@pytest.mark.parametrize("transform", [ContrastTransform, SaturationTransform])
def test_an_unknown_channel_order_is_refused(transform):
    with pytest.raises(ValueError, match="BGR"):
        transform(0.5, "HSV")
