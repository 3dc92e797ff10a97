"""Detectron2 alone loads what is exported for it."""

import json

import cv2
import pytest
import torch
from deployed import CLASSES, RETINANET, deployed, run_without, write_run
from detectron2.config import get_cfg
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY, FastRCNNConvFCHead

from soft_teacher import ConfigError
from soft_teacher.deploy.export.exporting import export
from soft_teacher.deploy.export.stock_detectron2 import check_stock
from soft_teacher.experiment.entry import load_experiment

SCRIPT = """
import json
import cv2
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor

cfg = get_cfg()
cfg.merge_from_file("stock/config.yaml", allow_unsafe=False)
cfg.MODEL.WEIGHTS = "stock/model.pth"
found = DefaultPredictor(cfg)(cv2.imread("photos/0.png"))["instances"]
rows = [found.pred_classes, found.scores, found.pred_boxes.tensor]
print(json.dumps([row.tolist() for row in rows]))
"""


@pytest.mark.parametrize("kind", ["rcnn", "retinanet"])
def test_the_stock_predictor_detects_the_same_without_this_package(kind, tmp_path):
    source, views = deployed(write_run(tmp_path, kind), network="student")
    export(source, views, str(tmp_path / "stock"))
    found = json.loads(run_without(["soft_teacher"], SCRIPT, tmp_path).splitlines()[-1])
    photo = str(tmp_path / "photos" / "0.png")
    with torch.no_grad():
        ours = source.network([source.mapper({"file_name": photo})])[0]["instances"]
    assert len(ours) > 10 and ours.image_size == cv2.imread(photo).shape[:2]
    expected = [ours.pred_classes, ours.scores, ours.pred_boxes.tensor]
    assert found == [pytest.approx(row.tolist(), abs=1e-3) for row in expected[:2]] + [
        [pytest.approx(box, abs=1e-3) for box in expected[2].tolist()]
    ]


def test_the_folder_says_what_it_is(tmp_path):
    config = write_run(tmp_path)
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


@pytest.mark.parametrize("config", ["soft_teacher", "retinanet"])
def test_the_backbone_of_the_demo(config):
    experiment = load_experiment(f"configs/demo/{config}.yaml", ["MODEL.DEVICE", "cpu"])
    line = refusal(experiment)
    assert line.startswith("MODEL.BACKBONE.NAME 'build_small_resnet_fpn_backbone' is no part of")


def test_a_part_of_somebody_else_is_not_taken_for_the_one_it_derives_from(tmp_path):
    @ROI_BOX_HEAD_REGISTRY.register()
    class TheirHead(FastRCNNConvFCHead):
        """Might compute anything."""

    try:
        config = write_run(tmp_path, ROI_BOX_HEAD={"NAME": "TheirHead", "NUM_FC": 1, "FC_DIM": 4})
        assert "MODEL.ROI_BOX_HEAD.NAME 'TheirHead'" in refusal(load_experiment(str(config)))
    finally:
        del ROI_BOX_HEAD_REGISTRY._obj_map["TheirHead"]


def test_a_lazy_config():
    experiment = load_experiment("configs/demo/soft_teacher.py", ["train.device=cpu"])
    assert "described by a LazyConfig: export it to model.ts" in refusal(experiment)


def test_our_own_parts_are_those_of_detectron2_in_a_detection(tmp_path):
    heads = {"NAME": "SoftTeacherROIHeads", "NUM_CLASSES": 3, "IN_FEATURES": ["p2", "p3"]}
    rpn = {"NAME": "SoftTeacherRPN"}
    config = write_run(tmp_path, ROI_HEADS=heads, PROPOSAL_GENERATOR=rpn)
    source, views = deployed(config)
    export(source, views[:1], str(tmp_path / "stock"))
    text = (tmp_path / "stock" / "config.yaml").read_text()
    assert "StandardROIHeads" in text and "SoftTeacher" not in text


def test_a_retinanet_needs_no_parts_of_an_rcnn(tmp_path):
    config = write_run(tmp_path, "retinanet")
    check_stock(load_experiment(str(config)))
    assert "ROI_HEADS" not in RETINANET
