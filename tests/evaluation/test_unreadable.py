"""Evaluation on images of which some cannot be read, with Detectron2's own evaluators."""

import json
import logging

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    build_detection_test_loader,
)
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.evaluation import (
    COCOEvaluator,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
)
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from detectron2.utils import logger as detectron2_logger
from omegaconf import OmegaConf
from PIL import Image

from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.evaluation.unreadable import ReadableImagesEvaluator
from soft_teacher.experiment.lazy_experiment import loader_for

W, H, IMAGES = 60, 40, 4
BOX = [10, 5, 40, 30]  # XYXY
NAME = "unreadable_test"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Nothing was logged before."""
    monkeypatch.setattr(detectron2_logger, "_LOG_COUNTER", type(detectron2_logger._LOG_COUNTER)())


@pytest.fixture
def images(tmp_path):
    """The files of the dataset."""
    paths = [tmp_path / "JPEGImages" / f"{n}.jpg" for n in range(IMAGES)]
    paths[0].parent.mkdir()
    for n, path in enumerate(paths):
        pixels = np.random.default_rng(n).integers(0, 256, (H, W, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def coco(folder, **size):
    x0, y0, x1, y1 = BOX
    box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": 750, "iscrowd": 0, "category_id": 1}
    size = {"height": H, "width": W, **size}
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", **size} for n in range(IMAGES)],
        "annotations": [{"id": n + 1, "image_id": n, **box} for n in range(IMAGES)],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    register_coco_instances(NAME, {}, str(folder / "coco.json"), str(folder / "JPEGImages"))
    DatasetCatalog.get(NAME)
    return COCOEvaluator(NAME, tasks=("bbox",), distributed=False, output_dir=str(folder))


def voc(folder):
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    ids = [str(n) for n in range(IMAGES)]
    (folder / "ImageSets" / "Main" / "val.txt").write_text("\n".join(ids))
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (BOX[0] + 1, BOX[1] + 1, *BOX[2:]))
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    for n in ids:
        (folder / "Annotations" / f"{n}.xml").write_text(
            f"<annotation><size><width>{W}</width><height>{H}</height></size><object>"
            "<name>cat</name><pose>Left</pose><truncated>0</truncated><difficult>0</difficult>"
            f"<bndbox>{box}</bndbox></object></annotation>"
        )
    register_pascal_voc(NAME, str(folder), "val", 2012, class_names=["cat"])
    return PascalVOCDetectionEvaluator(NAME)


class Perfect(torch.nn.Module):
    """Detects the box of every image, and the same in what stands in an unreadable one's place."""

    def forward(self, inputs):
        return [
            {
                "instances": Instances(
                    (H, W),
                    pred_boxes=Boxes(torch.tensor([BOX], dtype=torch.float32)),
                    scores=torch.ones(1),
                    pred_classes=torch.zeros(1, dtype=torch.int64),
                )
            }
            for _ in inputs
        ]


def evaluated(evaluator, mapper=None, batch_size=1):
    mapper = mapper or InferenceMapper(augmentations=[], image_format="BGR")
    dicts = DatasetCatalog.get(NAME)
    loader = build_detection_test_loader(dicts, mapper=mapper, batch_size=batch_size)
    return inference_on_dataset(Perfect(), loader, ReadableImagesEvaluator(evaluator, NAME))["bbox"]


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("soft_teacher")]


@pytest.mark.parametrize("kind", [coco, voc])
def test_without_unreadable_images_nothing_is_said_and_nothing_changes(
    kind, images, tmp_path, caplog
):
    evaluator = kind(tmp_path)
    found = evaluated(evaluator)
    stock = DatasetMapper(False, augmentations=[], image_format="BGR")
    loader = build_detection_test_loader(DatasetCatalog.get(NAME), mapper=stock)
    expected = inference_on_dataset(Perfect(), loader, evaluator)["bbox"]
    assert found["AP"] == pytest.approx(100) and str(found) == str(expected)
    assert warnings(caplog) == []


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("kind", [coco, voc])
def test_objects_of_unreadable_images_are_missed(kind, batch_size, images, tmp_path, caplog):
    images[1].write_bytes(images[1].read_bytes()[:-300])
    Image.open(images[3]).rotate(90, expand=True).save(images[3])
    caplog.set_level(logging.WARNING)
    found = evaluated(kind(tmp_path), batch_size=batch_size)
    # All that are found are right, so precision is 1 up to a recall of a half.
    assert found["AP50"] == pytest.approx(50, abs=1)
    cut, turned, count = warnings(caplog)
    assert f"{images[1]}: the JPEG is cut off" in cut and str(images[3]) in turned
    assert count == (
        f"{NAME}: 2 of 4 images are unreadable and evaluated as images without detections"
    )


def test_no_readable_image_at_all(images, tmp_path, caplog):
    for path in images:
        path.write_bytes(b"")
    assert not evaluated(coco(tmp_path))["AP"] > 0
    assert "4 of 4 images are unreadable" in warnings(caplog)[-1]


def test_images_are_named_once_and_counted_every_time(images, tmp_path, caplog):
    images[0].write_bytes(b"")
    evaluator = coco(tmp_path)
    for _ in range(2):
        evaluated(evaluator)
    assert [str(images[0]) in line for line in warnings(caplog)] == [True, False, False]


def test_the_main_process_reports_for_all(images, tmp_path, caplog, monkeypatch):
    evaluator = ReadableImagesEvaluator(coco(tmp_path), NAME)
    evaluator.reset()
    evaluator.evaluator.evaluate = lambda: {}
    mine, theirs = (3, ["a.jpg: empty"]), (2, ["b.jpg: empty"])
    evaluator._seen, evaluator._unreadable = mine
    monkeypatch.setattr(comm, "gather", lambda value, dst: [value, theirs])
    evaluator.evaluate()
    assert "2 of 5 images" in warnings(caplog)[-1] and "b.jpg" in caplog.text
    caplog.clear()
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "gather", lambda value, dst: [])
    evaluator.evaluate()
    assert warnings(caplog) == []


class OwnMapper(DatasetMapper):
    pass


@pytest.mark.parametrize("target", [DatasetMapper, OwnMapper])
def test_detectron2_s_mapper_in_a_lazy_config_becomes_ours_and_others_stay(target):
    mapper = LazyCall(target)(is_train=False, augmentations=[], image_format="RGB")
    node = LazyCall(build_detection_test_loader)(dataset={"names": "x"}, mapper=mapper)
    found = loader_for(OmegaConf.create({"dataloader": {"test": node}}), "y")
    assert found.dataset.names == "y" and node.dataset.names == "x"
    assert found.mapper._target_ is (InferenceMapper if target is DatasetMapper else OwnMapper)
    assert found.mapper.image_format == "RGB" and node.mapper._target_ is target
