"""The views of a multi-scale test: sizes, mirror images, and where a pixel of the image lies."""

import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge

from soft_teacher import ConfigError
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.data.multi_scale import MultiScale

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def views_of(image, **settings):
    looks = MultiScale(**settings)
    return [looks.view(image, number) for number in range(len(looks))]


def test_one_scale_is_the_view_of_an_evaluation(image):
    mapper = InferenceMapper(
        augmentations=[ResizeShortestEdge(50, 70, "choice")], image_format="BGR"
    )
    (view,) = views_of(image, min_sizes=[50], max_size=70, flip=False)
    assert torch.equal(view.image, mapper.view_of(image)["image"])
    assert not view.is_mirrored and view.box_sizes is None


def test_the_whole_image_is_what_views_are_made_of(image):
    mapper = InferenceMapper(
        augmentations=[ResizeShortestEdge(50, 70)], image_format="RGB", max_pixels=9
    )
    whole = mapper.whole()
    np.testing.assert_array_equal(whole.view_of(image)["image"].permute(1, 2, 0), image)
    assert (whole.image_format, whole.max_pixels) == ("RGB", 9)
    assert mapper.view_of(image)["image"].shape[1:] != (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "settings, sizes",
    [
        (dict(), [(20, 30), (80, 120)]),
        (dict(max_size=60), [(20, 30), (40, 60)]),
        (dict(max_sizes=[15, 90]), [(10, 15), (60, 90)]),
        (dict(max_size=1, max_sizes=[15, 90]), [(10, 15), (60, 90)]),
    ],
)
def test_every_scale_is_followed_by_its_mirror_image(image, settings, sizes):
    settings = {"min_sizes": [20, 80], "max_size": 1000, **settings}
    views = views_of(image, **settings)
    assert [view.size for view in views] == [size for size in sizes for _ in range(2)]
    assert [view.is_mirrored for view in views] == [False, True] * 2
    for upright, mirrored in zip(views[::2], views[1::2]):
        assert torch.equal(mirrored.image, upright.image.flip(2))
    alone = views_of(image, **settings, flip=False)
    assert [view.size for view in alone] == sizes
    assert not any(view.is_mirrored for view in alone)


def test_the_matrix_says_where_a_point_of_the_image_lies(image):
    upright, mirrored = views_of(image, min_sizes=[20], max_size=100)
    np.testing.assert_allclose(upright.matrix @ [60, 8, 1], [30, 4, 1])
    np.testing.assert_allclose(mirrored.matrix @ [60, 8, 1], [0, 4, 1], atol=1e-6)


def test_a_very_long_image_keeps_a_pixel():
    (view,) = views_of(np.zeros((1, 900, 3), np.uint8), min_sizes=[8], max_size=64, flip=False)
    assert view.size == (1, 64)


def test_sizes_of_boxes_go_with_scales(image):
    views = views_of(image, min_sizes=[20, 80], max_size=99, box_sizes=[(32, 1e5), (0, 32)])
    assert [view.box_sizes for view in views] == [(32, 1e5)] * 2 + [(0, 32)] * 2


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(max_sizes=[50]), "MultiScale.max_sizes must be empty or have 2 items"),
        (dict(box_sizes=[(0, 9)] * 3), "MultiScale.box_sizes must be empty or have 2 items"),
        (dict(box_sizes=[(0, 9), (9, 9)]), "MultiScale.box_sizes has an empty range, 9 to 9"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        MultiScale(min_sizes=[20, 80], max_size=99, **settings)


def test_yaml_has_detectron2_s_keys_and_two_more(tiny_cfg):
    tiny_cfg.TEST.AUG.MIN_SIZES = (20, 80)
    tiny_cfg.TEST.AUG.MAX_SIZE = 99
    tiny_cfg.TEST.AUG.FLIP = False
    plain = vars(MultiScale(tiny_cfg))
    assert plain == vars(MultiScale(min_sizes=[20, 80], max_size=99, flip=False))
    tiny_cfg.TEST.AUG.MAX_SIZES = (30, 120)
    tiny_cfg.TEST.AUG.BOX_SIZES = ((0, 64), (32, 1000))
    changed = vars(MultiScale(tiny_cfg))
    assert changed["max_sizes"] == [30, 120]
    assert changed["box_sizes"] == [(0, 64), (32, 1000)]
