"""Labeled objects that are moved within their image."""

import copy

import numpy as np
import pytest
from detectron2.structures import BoxMode
from training import CONFIGS

from soft_teacher import ConfigError
from soft_teacher.data.augmentation.instance_paste import InstancePaste
from soft_teacher.data.mapper import LabeledDatasetMapper
from soft_teacher.data.masks import bitmap, encoded
from soft_teacher.data.streams.dataset import seeded
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.experiment.yaml_config import load_config

H, W = SIZE = (80, 120)
GREY, ROAD, IGNORED = 100, 7, 255
# XYXY, color and semantic class of the objects of an image.
OBJECTS = [((20, 10, 50, 40), 240, 1), ((70, 30, 100, 70), 10, 2)]


def ellipse(box) -> np.ndarray:
    x0, y0, x1, y1 = box
    y, x = np.mgrid[:H, :W] + 0.5
    return ((2 * x - x0 - x1) / (x1 - x0)) ** 2 + ((2 * y - y0 - y1) / (y1 - y0)) ** 2 <= 1


def scene(objects=OBJECTS):
    """An image of plain objects on grey, their annotations, and its map."""
    image, labels = np.full((H, W, 3), GREY, np.uint8), np.full(SIZE, ROAD, np.uint8)
    annotations = []
    for box, color, number in objects:
        mask = ellipse(box)
        image[mask], labels[mask] = color, number
        annotations.append(
            {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": number,
             "segmentation": encoded(mask), "area": 1.0, "iscrowd": 0}
        )  # fmt: skip
    return image, annotations, labels


def paste(*sample, seed=0, **kwargs):
    with seeded(seed):
        return InstancePaste(**{"prob": 1.0, **kwargs})(*sample)


def masks_of(annotations):
    return [bitmap(a["segmentation"], SIZE) for a in annotations]


def box_of(mask):
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_no_objects():
    image, _, labels = scene([])
    found = paste(image, [], labels)
    assert found[0] is image and found[1] == [] and found[2] is labels


def test_an_image_that_is_one_object_stays():
    image, annotations, _ = scene()
    annotations = [{**annotations[0], "segmentation": encoded(np.ones(SIZE))}]
    assert paste(image, annotations)[0] is image


def test_the_chance_is_that_of_an_image():
    sample = scene()
    moved = [paste(*sample, seed=seed, prob=0.3)[0] is not sample[0] for seed in range(400)]
    assert np.mean(moved) == pytest.approx(0.3, abs=0.06)
    assert paste(*sample, prob=0.0)[0] is sample[0]


def test_a_place_is_the_seed_s():
    one, again, other = (paste(*scene(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one[0], again[0]) and one[1] == again[1]
    assert not np.array_equal(one[0], other[0])


def test_the_arguments_stay():
    sample = scene()
    before = copy.deepcopy(sample)
    paste(*sample)
    assert np.array_equal(sample[0], before[0]) and np.array_equal(sample[2], before[2])
    assert sample[1] == before[1]


def test_pixels_masks_boxes_areas_and_classes_move_together():
    for seed in range(20):
        image, annotations, labels = paste(*scene(), seed=seed)
        for found, mask, (_, color, number) in zip(annotations, masks_of(annotations), OBJECTS):
            assert found["category_id"] == number
            assert found["bbox_mode"] == BoxMode.XYXY_ABS and found["bbox"] == box_of(mask)
            assert found["area"] == mask.sum()
            # All but its edge, which is blended.
            assert np.mean(image[mask][:, 0] == color) > 0.85
            assert np.mean(labels[mask] == number) > 0.97
            assert not (labels[~mask] == number).any()
            outside = np.abs(image[..., 0].astype(int) - color) < 20
            assert not (outside & ~np.logical_or.reduce(masks_of(annotations))).any()


def test_holes_are_filled_from_around_them_and_ignored_in_the_map():
    image, annotations, labels = scene()
    old = np.logical_or.reduce(masks_of(annotations))
    found = paste(image, annotations, labels, seed=3)
    new = np.logical_or.reduce(masks_of(found[1]))
    hole = old & ~new
    assert hole.any()
    assert np.abs(found[0][hole].astype(int) - GREY).max() <= 3
    assert (found[2][hole] == IGNORED).all()
    untouched = ~old & ~new
    assert (found[2][untouched] == ROAD).all()


@pytest.mark.parametrize(
    "settings, box",
    [
        ({"max_shift": 0.0, "scale_range": (1.0, 1.0)}, (20, 10, 50, 40)),
        ({"max_shift": 0.0, "scale_range": (0.5, 0.5)}, (27.5, 17.5, 42.5, 32.5)),
        ({"max_shift": 0.0, "scale_range": (1.2, 1.2)}, (17, 7, 53, 43)),
    ],
)
def test_objects_are_scaled_about_their_centers(settings, box):
    found = paste(*scene(OBJECTS[:1]), max_angle=0.0, **settings)[1]
    assert found[0]["bbox"] == pytest.approx(box, abs=1)


def test_places_fill_the_ranges():
    moves = []
    for seed in range(300):
        x0, y0, x1, y1 = paste(*scene(OBJECTS[1:]), seed=seed, max_shift=0.2)[1][0]["bbox"]
        # 30 x 40 pixels around (85, 50).
        moves.append([(x1 - x0) / 30, ((x0 + x1) / 2 - 85) / 30, ((y0 + y1) / 2 - 50) / 40])
    scale, dx, dy = np.array(moves).T
    assert (scale.min(), scale.max()) == pytest.approx((0.8, 1.2), abs=0.05)
    for shift in (dx, dy):
        assert (shift.min(), shift.max()) == pytest.approx((-0.2, 0.2), abs=0.03)
    assert abs(np.corrcoef(dx, dy)[0, 1]) < 0.2


def test_they_are_turned():
    bar = scene([((30, 35, 90, 43), 240, 1)])
    still = {"max_shift": 0.0, "scale_range": (1.0, 1.0), "max_angle": 20.0}
    boxes = np.array([paste(*bar, seed=seed, **still)[1][0]["bbox"] for seed in range(40)])
    heights = boxes[:, 3] - boxes[:, 1]
    # A turned bar of 60 x 8 is as high as 60 sin(20) + 8 cos(20) at most; its ellipse is less.
    assert 20 < heights.max() < 29 and heights.min() <= 9


def test_what_others_cover_is_no_part_of_a_mask():
    big, small = ((20, 10, 90, 70), 240, 1), ((45, 30, 65, 50), 10, 2)
    image, annotations, labels = scene([big, small])
    sample = image, annotations[::-1], labels
    for seed in range(10):
        image, annotations, labels = paste(*sample, seed=seed)
        first, second = masks_of(annotations)
        assert [a["category_id"] for a in annotations] == [2, 1]
        assert not (first & second).any() and first.sum() > 100
        assert (np.abs(image[second][:, 0].astype(int) - 10) > 20).mean() > 0.9
        assert not (labels[first] == 1).any()


def test_an_object_that_is_covered_is_left_out():
    # Of one size, so that the first is pasted first.
    objects = [((30, 20, 60, 50), 240, 1), ((30, 20, 60, 50), 10, 2)]
    still = {"max_shift": 0.0, "scale_range": (1.0, 1.0), "max_angle": 0.0}
    found = paste(*scene(objects), **still)[1]
    assert [a["category_id"] for a in found] == [2]


def test_crowds_stay_where_they_are():
    image, annotations, labels = scene()
    annotations[1]["iscrowd"] = 1
    found, moved, _ = paste(image, annotations, labels, seed=5)
    assert moved[1] is annotations[1]
    assert np.array_equal(found[ellipse(OBJECTS[1][0])], image[ellipse(OBJECTS[1][0])])


def test_polygons_become_masks():
    image, annotations, _ = scene(OBJECTS[:1])
    annotations[0]["segmentation"] = [[20.0, 10.0, 50.0, 10.0, 50.0, 40.0, 20.0, 40.0]]
    still = {"max_shift": 0.0, "scale_range": (1.0, 1.0), "max_angle": 0.0}
    (found,) = paste(image, annotations, **still)[1]
    assert found["bbox"] == [20, 10, 50, 40] and found["area"] == 900


def test_a_training_view_has_the_moved_objects(tmp_path):
    import cv2

    image, annotations, _ = scene()
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, image)
    record = {"file_name": path, "height": H, "width": W, "annotations": annotations}
    mapper = LabeledDatasetMapper(
        augmentations=[],
        image_format="BGR",
        mask_format="bitmask",
        instance_paste=InstancePaste(prob=1.0),
    )
    with seeded(4):
        sample = mapper(record)
    expected = paste(image, annotations, seed=4)
    assert np.array_equal(sample["image"].numpy(), expected[0].transpose(2, 0, 1))
    assert np.array_equal(sample["instances"].gt_masks.tensor, masks_of(expected[1]))
    assert sample["instances"].gt_boxes.tensor.tolist() == [a["bbox"] for a in expected[1]]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"prob": 1.5}, "InstancePaste.prob must be a number of at least 0 and of at most 1"),
        ({"scale_range": (1.2, 0.8)}, "scale_range of InstancePaste must have the smaller"),
        ({"scale_range": (0.0, 1.0)}, "item of scale_range of InstancePaste must be a number abov"),
        ({"max_angle": -1}, "max_angle of InstancePaste must be"),
        ({"max_shift": -0.1}, "max_shift of InstancePaste must be"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        InstancePaste(**settings)


# --- in a run


def test_a_key_of_yaml_switches_it_on():
    config, key = (
        str(CONFIGS / "mask_soft_teacher.yaml"),
        "SOFT_TEACHER.AUGMENTATION.INSTANCE_PASTE",
    )
    for opts, prob in (([], None), ([key, "0.25"], 0.25)):
        cfg = load_config(config, opts)
        found = build_two_stream_train_loader.from_config(cfg)["instance_paste"]
        assert getattr(found, "prob", None) == prob


@pytest.mark.parametrize("masks", [{"masks": False}, {"masks": True, "mask_format": "polygon"}])
def test_it_needs_masks_as_bitmaps(masks):
    with pytest.raises(ConfigError, match="InstancePaste.prob needs masks as bitmaps: set"):
        build_two_stream_train_loader(
            **dict.fromkeys(("labeled_names", "unlabeled_names"), []),
            **{f"{view}_augmentations": [] for view in ("labeled", "strong", "weak")},
            **{"image_format": "BGR", "batch_size": 1, "labeled_share": 1.0, "decay_steps": 0},
            **{"max_iter": 1, "num_workers": 0, "seed": 0},
            instance_paste=InstancePaste(),
            **masks,
        )
