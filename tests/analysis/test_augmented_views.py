"""Views with boxes where they belong, through the mappers of training."""

import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from soft_teacher import ConfigError
from soft_teacher.analysis.augmented_views import Policies, draw_views
from soft_teacher.data.augmentation.instance_paste import InstancePaste
from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.augmentation.transforms import (
    AffineTransform,
    CutoutTransform,
    FlipTransform,
    ResizeTransform,
)

H, W = 40, 60


@pytest.fixture
def picture():
    return np.random.RandomState(0).randint(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.fixture
def bare(tmp_path, picture):
    """A dataset dict without annotations."""
    Image.fromarray(picture).save(tmp_path / "image.png")
    return {"file_name": str(tmp_path / "image.png"), "height": H, "width": W, "image_id": 1}


@pytest.fixture
def sample(bare):
    """Two boxes, a crowd, and an annotation without a box."""
    xywh = dict(bbox=[10, 20, 20, 15], bbox_mode=BoxMode.XYWH_ABS, category_id=3)
    xyxy = dict(bbox=[50, 0, 60, 10], bbox_mode=BoxMode.XYXY_ABS, category_id=1)
    crowd = {**xyxy, "iscrowd": 1, "category_id": 7}
    return {**bare, "annotations": [xywh, crowd, {"category_id": 8}, xyxy]}


def policies(labeled=(), weak=(), strong=(), image_format="BGR"):
    return Policies(list(labeled), list(weak), list(strong), image_format)


def views_of(sample, *args, **kwargs):
    return draw_views(sample, policies(*args, **kwargs), num_draws=1, seed=0)


def test_a_dataset_without_annotations_has_views_without_boxes(bare):
    views = views_of(bare, strong=[FlipTransform(W)])
    assert [view.title for view in views] == ["original", "labeled", "weak", "strong"]
    for view in views:
        assert view.boxes.shape == (0, 4) and view.classes == []
    assert views[-1].outlines.shape == (0, 4, 2)


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_without_augmentations_every_view_is_the_image_in_rgb(sample, picture, image_format):
    for view in views_of(sample, image_format=image_format):
        np.testing.assert_array_equal(view.image, picture)
        assert view.boxes.tolist() == [[10, 20, 30, 35], [50, 0, 60, 10]]
        assert view.classes == [3, 1]
        assert view.text == (["60x40"] if view.title == "original" else [])


def test_the_labeled_view_has_the_boxes_of_training(sample):
    view = views_of(sample, labeled=[ResizeTransform(H, W, 80, 120), FlipTransform(120)])[1]
    assert view.boxes.tolist() == [[60, 40, 100, 70], [0, 0, 20, 20]]
    assert view.classes == [3, 1] and view.image.shape == (80, 120, 3)
    assert view.text == ["resize x2.00 to 120x80", "flip"]


@pytest.mark.parametrize("prob, text", [(1.0, ["moved objects", "flip"]), (0.0, ["flip"])])
def test_objects_move_in_labeled_views_alone(bare, picture, prob, text):
    mask = [[10, 20, 30, 20, 30, 35, 10, 35]]
    annotation = dict(bbox=[10, 20, 20, 15], bbox_mode=BoxMode.XYWH_ABS, category_id=3)
    sample = {**bare, "annotations": [{**annotation, "segmentation": mask}]}
    moving = policies(labeled=[FlipTransform(W)])
    moving.instance_paste = InstancePaste(prob=prob)
    original, labeled, weak, strong = draw_views(sample, moving, num_draws=1, seed=0)
    assert labeled.text == text and labeled.classes == [3]
    assert (labeled.boxes.tolist() == [[30, 20, 50, 35]]) == (prob == 0)
    for view in (original, weak, strong):
        np.testing.assert_array_equal(view.image, picture)


def test_the_strong_view_has_the_weak_boxes_by_the_matrix_between_them(sample):
    weak = [ResizeTransform(H, W, 80, 120)]
    # A shear along x that keeps the upper edge in place: x + y / 2.
    strong = [CutoutTransform([[1, 1, 3, 4]]), AffineTransform([[1, 0.5, 0], [0, 1, 0]], H, W)]
    _, _, weak_view, strong_view = views_of(sample, weak=weak, strong=strong)
    assert weak_view.boxes.tolist() == [[20, 40, 60, 70], [100, 0, 120, 20]]
    assert weak_view.text == ["resize x2.00 to 120x80"]
    np.testing.assert_allclose(strong_view.boxes, [[20, 20, 47.5, 35], [50, 0, 60, 10]], atol=1e-4)
    corners = [[20, 20], [40, 20], [47.5, 35], [27.5, 35]]
    np.testing.assert_allclose(strong_view.outlines[0], corners, atol=1e-4)
    np.testing.assert_allclose(strong_view.outlines[1, 2], [65, 10], atol=1e-4)
    assert strong_view.classes == [3, 1]
    assert strong_view.text == ["cutout 2x3", "shear x +26.6° y +0.0°"]


def test_a_box_that_left_the_strong_view_is_dropped_with_its_class(sample):
    aside = AffineTransform([[1, 0, -35], [0, 1, 0]], H, W)
    *_, weak, strong = views_of(sample, strong=[aside])
    assert weak.classes == [3, 1] and strong.classes == [1]
    np.testing.assert_allclose(strong.boxes, [[15, 0, 25, 10]])
    assert len(strong.outlines) == 1


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_a_sample_depends_on_the_seed_the_image_and_its_number_alone(sample, variant):
    names = ("labeled", "weak", "strong")
    columns = [build_policy(n, variant, short_edge=40, max_size=90) for n in names]

    def texts(num_draws, seed=0, index=0):
        views = draw_views(sample, policies(*columns), num_draws=num_draws, seed=seed, index=index)
        kinds = ["original", *["labeled"] * num_draws, *["weak", "strong"] * num_draws]
        assert [view.title for view in views] == kinds
        return [view.text for view in views]

    np.random.seed(3)
    following = np.random.RandomState(3).rand()
    two, three = texts(2), texts(3)
    assert np.random.rand() == following, "the caller's generator was touched"
    assert three[:3] == two[:3] and three[4:8] == two[3:]
    labeled, weak, strong = (
        [text[0] for text in two[n]] for n in (slice(1, 3), slice(3, 7, 2), slice(4, 7, 2))
    )
    assert labeled[0] != labeled[1] and labeled != weak != strong != labeled
    assert texts(2, seed=1)[1:] != two[1:] != texts(2, index=1)[1:]


class Bend(T.NoOpTransform):
    def apply_coords(self, coords):
        return coords + 1e-3 * coords[:, :1] * coords[:, 1:]


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"file_name": "gone.jpg"}, {}, "gone.jpg.*fix the file"),
        ({"file_name": __file__}, {}, f"{__file__}.*fix the file"),
        ({"width": W + 1}, {}, "image.png"),
        ({}, {"strong": [Bend()]}, "cannot be used: .*not an affine transform"),
        ({}, {"image_format": "HSV"}, "^image_format must be one of BGR, RGB"),
    ],
)
def test_a_mistake_is_named_in_one_line(sample, change, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        views_of({**sample, **change}, **options)
    assert "\n" not in str(error.value)
