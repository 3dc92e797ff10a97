"""Detectron2's own DefaultPredictor, given a config and a checkpoint of ours."""

import cv2
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from training import CONFIGS, save_untrained

from soft_teacher import add_soft_teacher_config
from soft_teacher.experiment import SoftTeacherTrainer, yaml_config
from soft_teacher.experiment.yaml_experiment import YamlExperiment

pytestmark = pytest.mark.usefixtures("tiny_digits")

YAML = CONFIGS / "soft_teacher.yaml"
OPTS = ["MODEL.DEVICE", "cpu", "DATASETS.TEST", "('digits_val',)"]


def assert_same(ours, theirs) -> None:
    assert len(ours) > 0
    for field in ("pred_classes", "scores"):
        assert torch.equal(ours.get(field), theirs.get(field))
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)


def test_a_config_with_our_keys_is_a_soft_teacher():
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == "SoftTeacher"


@pytest.mark.parametrize("config", ["ours", "of the output folder"])
def test_the_stock_predictor_is_the_trained_teacher(config, tmp_path):
    weights, path = str(tmp_path / "model_final.pth"), YAML
    evaluated = yaml_config.load_config(str(YAML), OPTS)
    save_untrained(weights, *OPTS)
    if config == "of the output folder":
        path = tmp_path / "config.yaml"
        path.write_text(evaluated.dump())

    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.merge_from_file(str(path))
    cfg.merge_from_list([*OPTS, "MODEL.WEIGHTS", weights])
    predict = DefaultPredictor(cfg)

    model = YamlExperiment(evaluated).load_trained(weights=weights).model
    student = 0
    for (sample,) in SoftTeacherTrainer.build_test_loader(evaluated, "digits_val"):
        found = predict(cv2.imread(sample["file_name"]))["instances"]
        with torch.no_grad():
            assert_same(found, model.teacher([sample])[0]["instances"])
            other = model.student([sample])[0]["instances"]
        student += len(other) == len(found) and torch.equal(other.scores, found.scores)
    assert student == 0
