import io

import cv2
import numpy as np
import pytest
from detectron2.data import detection_utils
from PIL import Image, ImageOps

from soft_teacher import ConfigError
from soft_teacher.data.images.image import UnreadableImage, image_size, is_image, read_image

H, W = 24, 40


@pytest.fixture
def photo():
    """A smooth colour picture, RGB, in which no two directions look alike."""
    small = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (W, H), interpolation=cv2.INTER_LINEAR)


@pytest.fixture
def save(tmp_path):
    def save(image, name="image.png", **options):
        path = tmp_path / name
        Image.fromarray(image).save(path, **options)
        return str(path)

    return save


def cut(path, share):
    """Keeps the first part of a file."""
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[: int(len(data) * share)])
    return path


# --- files that cannot be read ------------------------------------------------------------------


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"")
    with pytest.raises(UnreadableImage, match="empty.jpg: the file is empty"):
        read_image(str(path))


@pytest.mark.parametrize("content", [b"no image", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n"])
def test_a_file_that_is_no_image(content, tmp_path):
    path = tmp_path / "text.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage) as error:
            read(str(path))
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage, match="No such file"):
            read(str(tmp_path / "gone.jpg"))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "webp", "gif", "tif"])
def test_a_file_that_was_cut_off(kind, share, photo, save):
    path = cut(save(photo, f"image.{kind}"), share)
    with pytest.raises(UnreadableImage):
        read_image(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_after_the_thumbnail_in_its_header(progressive, photo, save):
    """The thumbnail's end marker is not the image's."""
    thumbnail = io.BytesIO()
    Image.fromarray(photo).save(thumbnail, "JPEG")
    application = b"\xff\xed" + (len(thumbnail.getvalue()) + 2).to_bytes(2, "big")
    path = save(photo, "image.jpg", progressive=progressive)
    data = open(path, "rb").read()
    whole = data[:2] + application + thumbnail.getvalue() + data[2:]
    open(path, "wb").write(whole)
    assert read_image(path).shape == (H, W, 3)
    with pytest.raises(UnreadableImage, match="cut off"):
        read_image(cut(path, 0.95))


def test_bytes_after_the_end_of_a_jpeg_are_no_harm(photo, save):
    path = save(photo, "image.jpg")
    plain = read_image(path)
    open(path, "ab").write(b"trailer of a camera" * 100)
    np.testing.assert_array_equal(read_image(path), plain)


def test_an_unknown_channel_order_is_refused(photo, save):
    with pytest.raises(ConfigError, match="image_format must be one of BGR, RGB"):
        read_image(save(photo), "L")


# --- files of all kinds -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "ppm"])
def test_pixels_in_either_order(kind, photo, save):
    path = save(photo, f"image.{kind}")
    np.testing.assert_array_equal(read_image(path, "RGB"), photo)
    np.testing.assert_array_equal(read_image(path, "BGR"), photo[:, :, ::-1])


@pytest.mark.parametrize("options", [dict(quality=75), dict(quality=95, subsampling=0)])
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_jpegs_decode_to_the_pixels_of_detectron2_s_reader(options, image_format, photo, save):
    path = save(photo, "image.jpg", **options)
    expected = detection_utils.read_image(path, format=image_format)
    np.testing.assert_array_equal(read_image(path, image_format), expected)


def test_grey_becomes_three_equal_channels(photo, save):
    found = read_image(save(photo[:, :, 0]))
    np.testing.assert_array_equal(found, np.repeat(photo[:, :, :1], 3, axis=2))


def test_black_and_white_becomes_0_and_255(photo, save):
    assert np.unique(read_image(save(photo[:, :, 0] > 128))).tolist() == [0, 255]


def test_transparency_is_dropped(photo, save):
    alpha = np.full((H, W, 1), 100, dtype=np.uint8)
    np.testing.assert_array_equal(read_image(save(np.dstack([photo, alpha])), "RGB"), photo)


def test_of_16_bits_the_upper_8_are_kept(save):
    deep = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 68
    found = read_image(save(deep))
    assert found.dtype == np.uint8 and found.shape == (H, W, 3)
    np.testing.assert_allclose(found[:, :, 0], deep / 257, atol=1)


def test_a_palette_is_resolved(photo, tmp_path):
    path = tmp_path / "image.png"
    palette = Image.fromarray(photo).quantize(16)
    palette.save(path)
    np.testing.assert_array_equal(read_image(str(path), "RGB"), palette.convert("RGB"))


def test_cmyk_becomes_rgb(photo, tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(photo).convert("CMYK").save(path, quality=100)
    difference = np.abs(read_image(str(path), "RGB").astype(int) - photo)
    assert difference.mean() < 5


TURNED = {
    "jpg": dict(quality=95),
    "png": {},
    "tif": {},
    "webp": dict(lossless=True),
    "avif": dict(quality=100),
}


def turned(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("kind", TURNED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_whatever_its_exif_says(orientation, kind, photo, save):
    """Whatever OpenCV makes of it: before 4.13 it ignores EXIF in WebP, and always in AVIF."""
    path = save(photo, f"image.{kind}", exif=turned(orientation), **TURNED[kind])
    expected = ImageOps.exif_transpose(Image.open(path))
    found = read_image(path, "RGB")
    assert found.shape == ((W, H, 3) if orientation > 4 else (H, W, 3))
    assert found.flags.writeable and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, atol=2)
    assert image_size(path) == found.shape[:2]


def test_the_orientation_of_a_webp_is_applied_once_on_an_opencv_that_knows_it(photo, save):
    path = save(photo, "image.webp", lossless=True, exif=turned(6))
    np.testing.assert_array_equal(read_image(path, "RGB"), np.rot90(photo, -1))


@pytest.mark.parametrize("kind", ["jpg", "webp"])
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation, kind, photo, save):
    path = save(photo, f"image.{kind}", exif=turned(orientation))
    assert read_image(path).shape == (H, W, 3)
    assert image_size(path) == (H, W)


def test_a_kind_whose_orientation_cannot_be_known_is_refused_as_by_image_size(photo, tmp_path):
    path = str(tmp_path / "image.hdr")
    cv2.imwrite(path, photo.astype(np.float32))
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage, match="image.hdr: UnidentifiedImageError"):
            read(path)


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_damaged_exif_turns_nothing(kind, photo, save):
    path = save(photo, f"image.{kind}", exif=b"Exif\0\0no EXIF at all")
    assert read_image(path).shape == (H, W, 3)
    assert image_size(path) == (H, W)


@pytest.mark.parametrize("image_format, order", [("RGB", 1), ("BGR", -1)])
def test_what_opencv_cannot_read_goes_to_detectron2_s_reader(
    image_format, order, photo, save, monkeypatch
):
    path = save(photo)
    monkeypatch.setattr(cv2, "imdecode", lambda *args: None)
    found = read_image(path, image_format)
    np.testing.assert_array_equal(found, photo[:, :, ::order])
    assert found.flags.writeable and found.flags.c_contiguous


def test_an_image_can_be_written_to(photo, save):
    read_image(save(photo))[:] = 0


@pytest.mark.parametrize(
    "name, expected",
    [("", False), ("a.JPG", True), ("b/a.tiff", True), ("a.txt", False), ("jpg", False)],
)
def test_images_are_known_by_their_suffix(name, expected):
    assert is_image(name) is expected


# --- limits of the size -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "bmp", "webp", "gif", "avif", "jp2", "ppm"])
def test_more_pixels_than_allowed_are_not_decoded(kind, photo, save, monkeypatch):
    path = save(photo, f"image.{kind}")
    assert read_image(path, max_pixels=H * W).shape == (H, W, 3)
    assert image_size(path, max_pixels=H * W) == (H, W)
    monkeypatch.setattr(cv2, "imdecode", None)
    for read in (read_image, image_size):
        with pytest.raises(UnreadableImage) as error:
            read(path, max_pixels=H * W - 1)
        assert f"{path}: {W} x {H} pixels are more than max_pixels" in str(error.value)


def test_pillow_s_own_limit_does_not_stand_in_the_way(save):
    path = save(np.zeros((9_000, 10_000), bool), "large.tif", compression="group4")
    assert image_size(path) == (9_000, 10_000)
    with pytest.raises(UnreadableImage, match="10000 x 9000 pixels are more"):
        read_image(path, max_pixels=10_000)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "bmp", "webp", "gif", "ppm"])
@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1)])
def test_tiny_and_thin_images(kind, size, save):
    found = read_image(save(np.full((*size, 3), 200, np.uint8), f"image.{kind}"))
    assert found.shape == (*size, 3) and (abs(found.astype(int) - 200) < 3).all()


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1", "I;16"])
def test_no_bit_of_a_png_can_flip_unnoticed(mode, photo, tmp_path):
    path = tmp_path / "image.png"
    if mode == "I;16":
        Image.fromarray(np.arange(H * W, dtype=np.uint16).reshape(H, W) * 68).save(path)
    else:
        Image.fromarray(photo).convert(mode).save(path, exif=turned(6))
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(8, len(whole), 40):
        data = bytearray(whole)
        data[place] ^= 1 << int(place) % 8
        path.write_bytes(data)
        with pytest.raises(UnreadableImage):
            read_image(str(path))


@pytest.mark.parametrize(
    "compression, damage", [("tiff_lzw", bytes(200)), ("tiff_adobe_deflate", b"\x55")]
)
def test_a_tiff_that_cannot_be_unpacked_is_refused(compression, damage, photo, save):
    """OpenCV logs it and returns what there is."""
    path = save(photo, "image.tif", compression=compression)
    data = bytearray(open(path, "rb").read())
    middle = len(data) // 2
    data[middle : middle + len(damage)] = damage
    open(path, "wb").write(data)
    with pytest.raises(UnreadableImage):
        read_image(path)


@pytest.mark.parametrize("kind", ["avif", "gif"])
def test_what_opencv_refuses_pillow_does_not_make_up(kind, photo, save, monkeypatch):
    path = save(photo, f"image.{kind}")
    monkeypatch.setattr(cv2, "imdecode", lambda *args: None)
    monkeypatch.setattr(cv2, "haveImageWriter", lambda name: True)
    with pytest.raises(UnreadableImage, match=f"the {kind.upper()} is damaged"):
        read_image(path)
    monkeypatch.setattr(cv2, "haveImageWriter", lambda name: False)
    assert read_image(path).shape == (H, W, 3)


def test_16_bits_that_pillow_would_cut_to_white_are_refused(save, monkeypatch):
    path = save(np.arange(H * W, dtype=np.uint16).reshape(H, W) * 68, "image.tif")
    monkeypatch.setattr(cv2, "imdecode", lambda *args: None)
    with pytest.raises(UnreadableImage, match="I;16 cannot be reduced to 8 bits"):
        read_image(path)


def test_fill_bytes_between_the_parts_of_a_jpeg_are_no_harm(photo, save):
    path = save(photo, "image.jpg")
    data = open(path, "rb").read()
    plain = read_image(path)
    open(path, "wb").write(data[:2] + b"\xff\xff" + data[2:])
    np.testing.assert_array_equal(read_image(path), plain)
    with pytest.raises(UnreadableImage, match="more than max_pixels"):
        read_image(path, max_pixels=1)
