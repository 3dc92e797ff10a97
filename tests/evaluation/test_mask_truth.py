"""Evaluation of masks where every object has one, of boxes alone where one has none."""

import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils import logger as detectron2_logger
from omegaconf import OmegaConf
from PIL import Image
from pycocotools import mask as coco_mask

from soft_teacher.data.datasets.evaluated import evaluation_name
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.evaluation.evaluate import best_metric, evaluate_networks
from soft_teacher.evaluation.mask_truth import objects_without_mask
from soft_teacher.experiment.lazy_experiment import evaluator_for

W, H, IMAGES = 60, 40, 3
BOX = [10, 5, 40, 30]  # XYXY
POLYGON = [10, 5, 40, 5, 40, 30, 10, 30]
TRIANGLE = [10, 5, 40, 5, 10, 30]
NAME = "mask_truth_test"

pytestmark = pytest.mark.usefixtures("own_catalog")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Nothing was logged before."""
    monkeypatch.setattr(detectron2_logger, "_LOG_COUNTER", type(detectron2_logger._LOG_COUNTER)())


def rle(mask):
    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {**found, "counts": found["counts"].decode()}


def box_mask():
    mask = np.zeros((H, W), dtype=bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


def write(folder, *segmentations, size=(H, W), objects=True):
    """A JSON with an image for each segmentation; None for an object without one."""
    sides = dict(zip(("height", "width"), size)) if size else {}
    x0, y0, x1, y1 = BOX
    box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 750, "iscrowd": 0, "category_id": 1}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", **sides} for n in range(len(segmentations))],
        "annotations": [
            {"id": n + 1, "image_id": n, **box, **({} if s is None else {"segmentation": s})}
            for n, s in enumerate(segmentations)
        ]
        * objects,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return str(path)


# --- which objects have a mask


@pytest.mark.parametrize(
    "segmentations, lacking",
    [
        ([], 0),
        ([[POLYGON], rle(box_mask()), {"counts": [10, 5], "size": [H, W]}], 0),
        ([[POLYGON, TRIANGLE]], 0),
        ([None], 1),
        ([[]], 1),
        ([[POLYGON], None, [[1, 2, 3, 4]], [[]], {}, "mask"], 5),
    ],
    ids=["no object", "polygons and RLE", "two parts", "none", "empty", "some"],
)
def test_objects_without_a_usable_mask_are_counted(segmentations, lacking, tmp_path):
    assert objects_without_mask(write(tmp_path, *segmentations)) == (lacking, len(segmentations))


def test_a_mask_needs_the_size_of_its_image(tmp_path):
    assert objects_without_mask(write(tmp_path, [POLYGON], size=None)) == (1, 1)


def test_a_file_that_has_changed_is_read_again(tmp_path):
    assert objects_without_mask(write(tmp_path, [POLYGON])) == (0, 1)
    assert objects_without_mask(write(tmp_path, [POLYGON], None)) == (1, 2)


# --- evaluation


class Detector(torch.nn.Module):
    """Finds the box of every image, with a mask that fills it; or nothing."""

    def __init__(self, *, count=1, masks=True):
        super().__init__()
        self.count, self.masks = count, masks

    def forward(self, inputs):
        found = Instances(
            (H, W),
            pred_boxes=Boxes(torch.tensor([BOX], dtype=torch.float32)),
            scores=torch.ones(1),
            pred_classes=torch.zeros(1, dtype=torch.int64),
        )
        if self.masks:
            found.pred_masks = torch.from_numpy(box_mask())[None]
        return [{"instances": found[: self.count]} for _ in inputs]


@pytest.fixture
def results(tmp_path):
    """results(detector, segmentations): of the teacher, as train_net.py evaluates."""

    def results(detector, *segmentations, unreadable=(), **written):
        segmentations = segmentations or [[POLYGON]] * IMAGES
        for n in range(len(segmentations)):
            Image.new("RGB", (W, H)).save(tmp_path / f"{n}.png")
        for n in unreadable:
            (tmp_path / f"{n}.png").write_bytes(b"")
        register_coco_instances(NAME, {}, write(tmp_path, *segmentations, **written), tmp_path)
        mapper = InferenceMapper(augmentations=[], image_format="BGR")
        return evaluate_networks(
            SimpleNamespace(teacher=detector),
            networks=["teacher"],
            datasets=[NAME],
            build_loader=lambda name: build_detection_test_loader(
                dataset=DatasetCatalog.get(name), mapper=mapper
            ),
            build_evaluator=lambda name, network: COCOEvaluator(
                evaluation_name(name), output_dir=str(tmp_path / "out")
            ),
        )["teacher"]

    return results


def warnings(caplog):
    return [
        r.getMessage()
        for r in caplog.records
        if r.name.startswith("soft_teacher") and r.levelno >= logging.WARNING
    ]


def test_boxes_and_masks_are_evaluated_with_their_classes(results, caplog):
    found = results(Detector())
    assert set(found) == {"bbox", "segm"}
    assert found["bbox"]["AP"] == found["segm"]["AP"] == pytest.approx(100)
    assert found["segm"]["AP-cat"] == pytest.approx(100) and math.isnan(found["segm"]["AP-dog"])
    assert warnings(caplog) == []


def test_masks_are_measured_by_their_pixels_not_their_boxes(results):
    """A mask that fills the box has an IoU of about a half with the triangle in it."""
    found = results(Detector(), *[[TRIANGLE]] * IMAGES)
    assert found["bbox"]["AP"] == pytest.approx(100) and found["segm"]["AP75"] == 0


def test_a_detector_without_masks_has_boxes_alone(results, caplog):
    assert set(results(Detector(masks=False))) == {"bbox"}
    assert warnings(caplog) == []


@pytest.mark.parametrize("segmentations", [[None] * IMAGES, [[POLYGON], None]])
def test_objects_without_masks_are_evaluated_by_their_boxes_and_one_warning_says_so(
    segmentations, results, caplog
):
    found = results(Detector(), *segmentations)
    assert set(found) == {"bbox"} and found["bbox"]["AP"] == pytest.approx(100)
    lacking = segmentations.count(None)
    assert warnings(caplog) == [
        f"{NAME}: {lacking} of {len(segmentations)} objects have no mask, so boxes alone are "
        "evaluated"
    ]


def test_without_a_detection_the_boxes_have_no_ap(results):
    found = results(Detector(count=0))
    assert math.isnan(found["bbox"]["AP"])


def test_objects_of_unreadable_images_are_missed_by_masks_too(results):
    found = results(Detector(), unreadable=[1])
    assert found["segm"]["AP50"] == found["bbox"]["AP50"] == pytest.approx(200 / 3, abs=1)


def test_images_without_objects_are_evaluated(results):
    found = results(Detector(), objects=False)
    assert math.isnan(found["bbox"]["AP"]) and math.isnan(found["segm"]["AP"])


def test_a_mask_r_cnn_with_random_weights(results, tiny_cfg):
    tiny_cfg.MODEL.MASK_ON = True
    tiny_cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    tiny_cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
    tiny_cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 4
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    torch.manual_seed(0)
    found = results(META_ARCH_REGISTRY.get("GeneralizedRCNN")(tiny_cfg).eval())
    assert set(found) == {"bbox", "segm"} and 0 <= found["segm"]["AP"] <= 100


# --- choices


def test_boxes_decide_which_checkpoint_is_the_best():
    assert best_metric(["student", "teacher"], ["a"]) == "teacher/bbox/AP"


@pytest.mark.parametrize(
    "tasks, expected", [({}, None), (["bbox"], ["bbox"]), (["bbox", "segm"], None)]
)
def test_an_evaluator_of_a_lazy_config_finds_masks_in_the_predictions(tasks, expected):
    evaluator = {"_target_": COCOEvaluator, "dataset_name": "x", "output_dir": "y"}
    evaluator |= {"tasks": tasks} if tasks else {}
    cfg = OmegaConf.create({"dataloader": {"evaluator": evaluator}}, flags={"allow_objects": True})
    assert evaluator_for(cfg, "x", "x", "teacher").get("tasks") == expected
