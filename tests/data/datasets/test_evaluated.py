"""What Detectron2's evaluators read: AP is as it was, or is right where it was not."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BitMasks, Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util

from soft_teacher.data.datasets.dataset_checks import check_datasets
from soft_teacher.data.datasets.evaluated import evaluation_name

NAME = "evaluated_test"


pytestmark = pytest.mark.usefixtures("own_catalog")


def write(tmp_path, first_id=1, **values):
    """Two images with an object each, of categories 3 and 8."""
    images, annotations = [], []
    for number in (1, 2):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
        images.append({"id": number * 7, "file_name": f"{number}.png", "height": 64, "width": 64})
        box = {"bbox": [5 * number, 4, 20, 30], "area": 500, "iscrowd": 0}
        place = {"image_id": number * 7, "category_id": 3 if number == 1 else 8}
        annotations.append({"id": first_id + number - 1, **box, **place, **values})
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    path = tmp_path / "test.json"
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


def ap(name, tmp_path, shift=0.0):
    """All results of boxes that are shifted by some pixels, and the file that holds them."""
    evaluator = COCOEvaluator(name, tasks=("bbox",), output_dir=str(tmp_path / "out"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        found = Instances((64, 64), pred_boxes=Boxes(boxes + shift), scores=torch.ones(len(boxes)))
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        evaluator.process([record], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        results = evaluator.evaluate()["bbox"]
    return results, json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())


def check(name):
    return check_datasets(labeled=[], unlabeled=[], test=[name], num_classes=2)


@pytest.mark.parametrize("shift", [0.0, 3.7])
def test_the_ap_of_a_valid_json_is_detectron2_s_to_the_last_digit(shift, tmp_path):
    path = write(tmp_path)
    register_coco_instances(NAME, {}, str(path), str(tmp_path))
    expected = ap(NAME, tmp_path, shift)
    for name in (NAME, f"{path}@{tmp_path}"):
        check(name)
        read_as = evaluation_name(name)
        assert str(ap(read_as, tmp_path, shift)) == str(expected)  # NaN is not itself
        assert MetadataCatalog.get(read_as).json_file == str(path)
    assert MetadataCatalog.get(NAME).json_file == str(path)


@pytest.mark.parametrize("values", [{"first_id": 0}, {"area": None}, {"iscrowd": None}])
def test_perfect_boxes_are_found_whatever_the_ids_and_results_carry_the_user_s(values, tmp_path):
    path = write(tmp_path, **values)
    register_coco_instances(NAME, {}, str(path), str(tmp_path))
    for name in (NAME, f"{path}@{tmp_path}"):
        check(name)
        results, found = ap(evaluation_name(name), tmp_path)
        assert results["AP"] == pytest.approx(100)
        assert [(r["image_id"], r["category_id"]) for r in found] == [(7, 3), (14, 8)]


QUAD = [[6, 5, 24, 8, 22, 30, 9, 28]]


def mask_ap(name, tmp_path):
    """All results of masks that are those of the ground truth."""
    evaluator = COCOEvaluator(name, tasks=("bbox", "segm"), output_dir=str(tmp_path / "out"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        polygons = [[np.array(p) for p in a["segmentation"]] for a in record["annotations"]]
        found = Instances((64, 64), pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)))
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        found.pred_masks = BitMasks.from_polygon_masks(polygons, 64, 64).tensor
        evaluator.process([record], [{"instances": found}])
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluator.evaluate()["segm"]


@pytest.mark.parametrize("first_id", [0, 1])
def test_masks_are_evaluated_in_a_normalised_json_as_in_the_user_s(first_id, tmp_path):
    path = write(tmp_path, first_id=first_id, segmentation=QUAD, area=123)
    register_coco_instances(NAME, {}, str(path), str(tmp_path))
    check(NAME)
    read_as = evaluation_name(NAME)
    truth = json.loads(open(MetadataCatalog.get(read_as).json_file).read())["annotations"]
    assert [a["id"] for a in truth] == [1, 2]
    assert [(a["segmentation"], a["area"]) for a in truth] == [(QUAD, 123)] * 2
    assert mask_ap(read_as, tmp_path)["AP"] == pytest.approx(100)


def test_a_mask_that_cannot_be_used_is_not_in_a_normalised_json(tmp_path):
    path = write(tmp_path, first_id=0, segmentation=[[1, 2, 3]])
    register_coco_instances(NAME, {}, str(path), str(tmp_path))
    check(NAME)
    read_as = evaluation_name(NAME)
    truth = json.loads(open(MetadataCatalog.get(read_as).json_file).read())["annotations"]
    assert not any("segmentation" in a for a in truth)
    assert ap(read_as, tmp_path)[0]["AP"] == pytest.approx(100)


def test_masks_of_dicts_are_plain_json_in_a_normalised_one(tmp_path):
    write(tmp_path)
    box = {"bbox": [6, 5, 18, 25], "bbox_mode": 1, "category_id": 0, "iscrowd": 0}
    masks = [
        np.eye(64),
        [np.array(QUAD[0])],
        mask_util.encode(np.asfortranarray(np.eye(64, 64, 1), "u1")),
    ]
    record = {"file_name": str(tmp_path / "1.png"), "image_id": 1, "height": 64, "width": 64}
    record["annotations"] = [{**box, "segmentation": mask} for mask in masks]
    record["annotations"].append({**box, "bbox": [1, 1, None, 2]})
    DatasetCatalog.register(NAME, lambda: [record])
    MetadataCatalog.get(NAME).thing_classes = ["cat", "dog"]
    check(NAME)
    truth = json.loads(open(MetadataCatalog.get(evaluation_name(NAME)).json_file).read())
    whole, polygon, shifted = (a["segmentation"] for a in truth["annotations"])
    assert polygon == QUAD
    np.testing.assert_array_equal(mask_util.decode(whole), np.eye(64))
    np.testing.assert_array_equal(mask_util.decode(shifted), np.eye(64, 64, 1))


def test_dicts_of_the_user_s_own_code_are_normalised_under_an_alias(tmp_path):
    write(tmp_path)
    box = {"bbox_mode": 1, "category_id": 0, "iscrowd": 0}
    record = {"file_name": str(tmp_path / "1.png"), "image_id": 1, "height": 64, "width": 64}
    record["annotations"] = [{**box, "bbox": [1, 1, 20, 20]}, {**box, "bbox": [1, 1, None, 2]}]
    DatasetCatalog.register(NAME, lambda: [record])
    MetadataCatalog.get(NAME).thing_classes = ["cat", "dog"]
    assert "1 of 2 annotations cannot be evaluated with" in check(NAME)[0]
    name = evaluation_name(NAME)
    assert name != NAME and len(DatasetCatalog.get(name)[0]["annotations"]) == 1
    assert ap(name, tmp_path)[0]["AP"] == pytest.approx(100)
    assert len(record["annotations"]) == 2


def test_dicts_with_nothing_wrong_keep_their_name(tmp_path):
    write(tmp_path)
    box = {"bbox": [1, 1, 20, 20], "bbox_mode": 1, "category_id": 0, "iscrowd": 0}
    record = {"file_name": str(tmp_path / "1.png"), "image_id": 1, "height": 64, "width": 64}
    DatasetCatalog.register(NAME, lambda: [{**record, "annotations": [box]}])
    MetadataCatalog.get(NAME).thing_classes = ["cat", "dog"]
    check(NAME)
    assert evaluation_name(NAME) == NAME
