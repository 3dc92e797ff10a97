"""Detectron2 alone loads what is exported for it."""

import json

import cv2
import pytest
import torch
from deployed import CLASSES, R50, deployed, write_run
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead

from soft_teacher import ConfigError
from soft_teacher.deploy.export.exporting import export
from soft_teacher.deploy.export.stock_detectron2 import check_stock
from soft_teacher.experiment.entry import load_experiment


@pytest.mark.parametrize("kind", ["rcnn", "retinanet"])
def test_the_stock_predictor_detects_the_same(kind, tmp_path):
    # In a process without this package: test_page.py.
    source, views = deployed(write_run(tmp_path, kind, backbone=R50), network="student")
    export(source, views, str(tmp_path / "stock"))
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "stock" / "config.yaml"), allow_unsafe=False)
    cfg.MODEL.WEIGHTS = str(tmp_path / "stock" / "model.pth")
    photo = str(tmp_path / "photos" / "0.png")
    found = DefaultPredictor(cfg)(cv2.imread(photo))["instances"]
    with torch.no_grad():
        ours = source.network([source.mapper({"file_name": photo})])[0]["instances"]
    assert len(ours) > 10 and ours.image_size == cv2.imread(photo).shape[:2]
    for field in ("pred_classes", "scores"):
        assert torch.equal(found.get(field), ours.get(field))
    assert torch.equal(found.pred_boxes.tensor, ours.pred_boxes.tensor)


def test_the_folder_says_what_it_is(tmp_path):
    config = write_run(tmp_path, backbone=R50)
    source, views = deployed(config)
    export(source, views[:1], str(tmp_path / "stock"))
    assert json.loads((tmp_path / "stock" / "classes.json").read_text()) == CLASSES
    content = torch.load(tmp_path / "stock" / "model.pth", weights_only=True)
    assert content["classes"] == CLASSES
    assert list(content["model"]) == list(source.network.state_dict())
    text = (tmp_path / "stock" / "config.yaml").read_text()
    assert "SOFT_TEACHER" not in text and "DATASETS" not in text
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "stock" / "config.yaml"), allow_unsafe=False)
    assert (cfg.MODEL.ROI_HEADS.NAME, cfg.INPUT.MIN_SIZE_TEST) == ("StandardROIHeads", 64)


# --- parts that Detectron2 has not --------------------------------------------------------------


def refusal(experiment):
    with pytest.raises(ConfigError) as error:
        check_stock(experiment)
    return str(error.value)


@pytest.mark.parametrize("config", ["soft_teacher", "retinanet_soft_teacher"])
def test_the_backbone_of_the_demo(config):
    experiment = load_experiment(f"configs/demo/{config}.yaml", ["MODEL.DEVICE", "cpu"])
    line = refusal(experiment)
    assert line.startswith("MODEL.BACKBONE.NAME 'build_small_resnet_fpn_backbone' is no part of")


def test_a_part_of_somebody_else_is_not_taken_for_the_one_it_derives_from(tmp_path):
    @ROI_BOX_HEAD_REGISTRY.register()
    class TheirHead(FastRCNNConvFCHead):
        """Might compute anything."""

    try:
        config = write_run(tmp_path, backbone=R50, ROI_BOX_HEAD={"NAME": "TheirHead"})
        assert "MODEL.ROI_BOX_HEAD.NAME 'TheirHead'" in refusal(load_experiment(str(config)))
    finally:
        del ROI_BOX_HEAD_REGISTRY._obj_map["TheirHead"]


def test_a_lazy_config():
    experiment = load_experiment("configs/demo/soft_teacher.py", ["train.device=cpu"])
    assert "described by a LazyConfig: export it to model.ts" in refusal(experiment)


def test_our_own_parts_are_those_of_detectron2_in_a_detection(tmp_path):
    ours = {"ROI_HEADS": "SoftTeacherROIHeads", "PROPOSAL_GENERATOR": "SoftTeacherRPN"}
    config = write_run(tmp_path, backbone=R50, **{k: {"NAME": v} for k, v in ours.items()})
    source, views = deployed(config)
    export(source, views[:1], str(tmp_path / "stock"))
    text = (tmp_path / "stock" / "config.yaml").read_text()
    assert "StandardROIHeads" in text and "SoftTeacher" not in text
