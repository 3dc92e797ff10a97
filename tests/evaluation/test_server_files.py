"""Detections on images without annotations, as COCO's evaluation server takes them."""

import json

import numpy as np
import pytest
import torch
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image

from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.evaluation.evaluate import build_evaluator, evaluate_networks
from soft_teacher.evaluation.server_files import BOXES, MASKS, write_server_files

NAME = "server_test"
pytestmark = pytest.mark.usefixtures("own_catalog")


class Detector(torch.nn.Module):
    """Finds one object of the second class, with a mask that fills its box."""

    def __init__(self, masks):
        super().__init__()
        self.masks = masks

    def forward(self, inputs):
        found = Instances((32, 48), pred_boxes=Boxes(torch.tensor([[4.0, 8.0, 14.0, 28.0]])))
        found.scores, found.pred_classes = torch.tensor([0.75]), torch.tensor([1])
        if self.masks:
            found.pred_masks = torch.zeros(1, 32, 48, dtype=torch.bool)
            found.pred_masks[0, 8:28, 4:14] = True
        return [{"instances": found}] * len(inputs)


@pytest.fixture
def evaluate(tmp_path):
    """evaluate(masks) on two images as image_info_test-dev2017.json has them."""
    images = []
    for number in (70, 71):
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(tmp_path / f"{number}.jpg")
        size = {"height": 32, "width": 48}
        images.append({"id": number, "file_name": f"{number}.jpg", **size})
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    path = tmp_path / "image_info.json"
    path.write_text(json.dumps({"images": images, "categories": categories}))
    register_coco_instances(NAME, {}, str(path), str(tmp_path))

    def run(masks=True):
        check_datasets(labeled=[], unlabeled=[], test=[NAME], num_classes=2)
        inputs = [{"image_id": i["id"], "height": 32, "width": 48} for i in images]
        return evaluate_networks(
            torch.nn.ModuleDict({"teacher": Detector(masks)}),
            networks=["teacher"],
            datasets=[NAME],
            build_loader=lambda name: [[sample] for sample in inputs],
            build_evaluator=lambda name, network: build_evaluator(
                name, lambda read_as: COCOEvaluator(read_as, output_dir=str(tmp_path / "out"))
            ),
        )

    return run


def test_no_detections(tmp_path):
    assert write_server_files(str(tmp_path)) == []
    (tmp_path / "coco_instances_results.json").write_text("[]")
    assert write_server_files(str(tmp_path)) == []


def test_boxes_and_masks_have_a_file_each(evaluate, tmp_path):
    assert evaluate() == {"teacher": {}}
    boxes, masks = (json.loads((tmp_path / "out" / name).read_text()) for name in (BOXES, MASKS))
    assert boxes == [
        {"image_id": n, "category_id": 8, "bbox": [4.0, 8.0, 10.0, 20.0], "score": 0.75}
        for n in (70, 71)
    ]
    for row in masks:
        assert row.keys() == {"image_id", "category_id", "segmentation", "score"}
        assert row["segmentation"]["size"] == [32, 48]


def test_a_detector_of_boxes_has_one_file(evaluate, tmp_path):
    evaluate(masks=False)
    assert (tmp_path / "out" / BOXES).is_file() and not (tmp_path / "out" / MASKS).exists()
