"""Pseudo labels by a detector: which boxes are kept, and how a COCO JSON holds them."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from soft_teacher import ConfigError
from soft_teacher.evaluation.labeling import coco_categories, label_images

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
NAME = "labeling_test"


def found(boxes=(), classes=(), scores=()):
    return Instances(
        (40, 60),
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
    )


def labeled(*images, score_thresh=0.5):
    """``images`` are what is detected; None for one that cannot be read."""
    samples = [
        {"file_name": f"{n}.jpg", "number": n, "height": 40, "width": 60}
        | ({"unreadable": f"{n}.jpg: empty"} if image is None else {})
        for n, image in enumerate(images)
    ]
    return label_images(
        lambda batch: [{"instances": images[sample["number"]]} for sample in batch],
        [[sample] for sample in samples],
        score_thresh=score_thresh,
        categories=CATEGORIES,
        info={"weights": "x.pth"},
    )


# --- images and boxes


@pytest.mark.parametrize("images", [(), (None, None)])
def test_without_readable_images_there_is_nothing_to_learn_from(images):
    with pytest.raises(ConfigError, match=f"none of {len(images)} images"):
        labeled(*images)


def test_boxes_are_xywh_in_pixels_with_the_ids_of_the_categories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = found([[1, 2, 11.5, 22], [30, 10, 60, 40]], [1, 0], [0.75, 0.875])
    dataset = labeled(found(), one, found([[0, 0, 4, 4]], [0], [0.625]))
    assert dataset["images"] == [
        {"id": n + 1, "file_name": str(tmp_path / f"{n}.jpg"), "height": 40, "width": 60}
        for n in range(3)
    ]
    box = {"iscrowd": 0}
    assert dataset["annotations"] == [
        {**box, "id": 1, "image_id": 2, "category_id": 9, "bbox": [1, 2, 10.5, 20], "area": 210,
         "score": 0.75},
        {**box, "id": 2, "image_id": 2, "category_id": 7, "bbox": [30, 10, 30, 30], "area": 900,
         "score": 0.875},
        {**box, "id": 3, "image_id": 3, "category_id": 7, "bbox": [0, 0, 4, 4], "area": 16,
         "score": 0.625},
    ]  # fmt: skip
    assert dataset["categories"] == CATEGORIES


def test_a_box_must_be_scored_above_the_threshold():
    boxes, below = [[0, 0, 4, 4]] * 3, 0.9 - 1e-6
    dataset = labeled(found(boxes, [0, 0, 0], [0.5, 0.5625, below]), score_thresh=0.5)
    assert [a["score"] for a in dataset["annotations"]] == [0.5625, pytest.approx(below)]


def test_unreadable_images_are_named_counted_and_left_out(caplog):
    caplog.set_level(logging.WARNING, logger="soft_teacher.evaluation.labeling")
    dataset = labeled(None, found([[0, 0, 4, 4]], [0], [0.9]), None)
    assert dataset["info"] == {"weights": "x.pth", "unreadable": 2}
    assert [(i["id"], i["file_name"][-5:]) for i in dataset["images"]] == [(1, "1.jpg")]
    assert dataset["annotations"][0]["image_id"] == 1
    said = [r.getMessage() for r in caplog.records]
    assert said == ["left out: 0.jpg: empty", "left out: 2.jpg: empty"]


# --- masks


def masked(*masks):
    """A detection of class 0 for each mask (40, 60)."""
    instances = found([[0, 0, 4, 4]] * len(masks), [0] * len(masks), [0.75] * len(masks))
    instances.pred_masks = torch.as_tensor(np.array(masks, dtype=bool).reshape(-1, 40, 60))
    return instances


def blob():
    mask = np.zeros((40, 60), dtype=bool)
    mask[3:20, 5:50] = True
    mask[8:12, 10:20] = False
    return mask


def test_a_detector_of_masks_that_finds_nothing_writes_no_annotation():
    assert labeled(masked())["annotations"] == []


def test_masks_are_rle_of_the_image_and_the_area_is_theirs():
    dataset = json.loads(json.dumps(labeled(masked(blob(), np.zeros((40, 60))))))
    first, empty = dataset["annotations"]
    assert (first["area"], empty["area"]) == (blob().sum(), 0)
    assert first["segmentation"]["size"] == empty["segmentation"]["size"] == [40, 60]
    assert isinstance(first["segmentation"]["counts"], str)
    assert (coco_mask.decode(first["segmentation"]) == blob()).all()
    assert first["bbox"] == [0, 0, 4, 4]


def test_masks_of_boxes_below_the_threshold_are_left_out():
    instances = masked(blob(), ~blob())
    instances.scores = torch.tensor([0.4, 0.9])
    (annotation,) = labeled(instances)["annotations"]
    assert (coco_mask.decode(annotation["segmentation"]) == ~blob()).all()


# --- categories


@pytest.mark.parametrize(
    "names, ids, expected",
    [
        (None, None, [(1, "0"), (2, "1")]),
        (["cat", "dog"], None, [(1, "cat"), (2, "dog")]),
        (["cat", "dog"], {9: 1, 7: 0}, [(7, "cat"), (9, "dog")]),
        # Ids that a reader would number differently are not used.
        *(
            (["cat", "dog"], ids, [(1, "cat"), (2, "dog")])
            for ids in ({7: 1, 9: 0}, {7: 0}, {1: 0, 2: 1, 3: 2})
        ),
    ],
)
def test_categories_are_those_of_the_labeled_dataset_where_it_has_some(names, ids, expected):
    metadata = {"thing_classes": names, "thing_dataset_id_to_contiguous_id": ids}
    MetadataCatalog.get(NAME).set(**{k: v for k, v in metadata.items() if v})
    assert [(c["id"], c["name"]) for c in coco_categories([NAME], 2)] == expected
