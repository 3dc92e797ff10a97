"""Training and evaluation on images of a pixel, of a row or a column of pixels, and too large."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from training import metrics, train_lazy, train_yaml, weights

# A run registers the digits, here the tiny ones that other tests share.
pytestmark = pytest.mark.usefixtures("tiny_digits")

SIZES = [(1, 1), (1, 4000), (4000, 1), (2, 3), (60, 90), (700, 800)]  # height, width
LIMIT = 500_000


@pytest.fixture
def dataset(tmp_path):
    """COCO annotations of an image of each size, every one with a box that covers it."""
    images, boxes = [], []
    for n, (height, width) in enumerate(SIZES):
        pixels = np.random.default_rng(n).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        images.append({"id": n + 1, "file_name": f"{n}.png", "height": height, "width": width})
        box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
        boxes.append({"id": n + 1, "image_id": n + 1, "category_id": 1, **box})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))
    return str(path)


def yaml_opts(dataset):
    values = {
        "DATASETS.TRAIN_LABELED": dataset,
        "DATASETS.TRAIN_UNLABELED": dataset,
        "DATASETS.TEST": dataset,
        "MODEL.ROI_HEADS.NUM_CLASSES": 1,
        "INPUT.MAX_PIXELS": LIMIT,
        "DATALOADER.MAX_UNREADABLE": 0.5,
    }
    return [item for pair in values.items() for item in pair]


def lazy_opts(dataset):
    return [
        f"dataloader.train.labeled_names=[{dataset}]",
        f"dataloader.train.unlabeled_names=[{dataset}]",
        f"dataloader.test.dataset.names={dataset}",
        "model.student.roi_heads.num_classes=1",
        f"dataloader.train.max_pixels={LIMIT}",
        f"dataloader.test.mapper.max_pixels={LIMIT}",
        "dataloader.train.max_unreadable=0.5",
    ]


@pytest.mark.parametrize("train, opts", [(train_yaml, yaml_opts), (train_lazy, lazy_opts)])
@pytest.mark.long
def test_images_of_all_sizes_are_trained_on_and_evaluated(train, opts, dataset, tmp_path, caplog):
    train(tmp_path / "out", *opts(dataset))
    found = metrics(tmp_path / "out")
    assert np.isfinite(found["total_loss"]) and "teacher/bbox/AP" in found
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "out").values())
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    refused = [line for line in said if "5.png: 800 x 700 pixels are more than" in line]
    assert len(refused) == len(set(refused)) == 3  # once in each stream, and in the evaluation
    counts = [line for line in said if "1 of 6 images are unreadable" in line]
    assert len(counts) == 2  # student and teacher
