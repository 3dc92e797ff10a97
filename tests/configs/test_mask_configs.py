"""Configs with instance masks: what they change, and that both languages train the same model."""

import pytest
import torch
from coco import ROOT, difference, leaves
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model
from object_fields import fields
from omegaconf import OmegaConf

from soft_teacher.experiment import lazy_config, yaml_config

CONFIGS = ROOT / "configs"
# Config -> what it is without masks.
DEMO = {
    "demo/mask_soft_teacher": "demo/soft_teacher",
    "demo/mask_supervised": "demo/supervised",
}
COCO = {
    "coco/mask_partial_180k": "coco/partial_180k",
    "coco/mask_full_720k": "coco/full_720k",
}
every_config = pytest.mark.parametrize("name", [*DEMO, *COCO])


def load(name):
    return yaml_config.load_config(str(CONFIGS / f"{name}.yaml"))


def load_lazy(name):
    return lazy_config.load_config(str(CONFIGS / f"{name}.py"), ["train.device=cpu"])


# All that a mask head, its data and its schedule are made of.
OF_MASKS = ("MODEL.MASK_ON", "MODEL.ROI_MASK_HEAD.", "OUTPUT_DIR")
OF_DIGITS = ("INPUT.MASK_FORMAT",)


@every_config
def test_masks_are_the_difference(name):
    found = difference(leaves(load(name)), leaves(load((DEMO | COCO)[name])))
    allowed = OF_MASKS + OF_DIGITS if name in DEMO else OF_MASKS
    assert {key for key in found if not key.startswith(allowed)} == set()
    assert found["MODEL.MASK_ON"] == (True, False)


def test_the_demo_s_runs_have_the_same_labeled_images():
    one, other = (load(name) for name in DEMO)
    assert one.INPUT.MASK_FORMAT == other.INPUT.MASK_FORMAT == "bitmask"
    labeled = [c.SOLVER.IMS_PER_BATCH * c.SOFT_TEACHER.LABELED_SHARE for c in (one, other)]
    assert labeled == [4, 4]


@every_config
def test_the_model_and_the_steps_are_the_same_in_both_languages(name):
    cfg, lazy = load(name), load_lazy(name)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        one, other = build_model(cfg), instantiate(lazy.model)
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (one, other)]
    assert any("mask_head" in key for key in shapes[0]) and difference(*shapes) == {}
    assert difference(fields(one), fields(other)) == {}
    assert one.family.has_masks(one.student)
    assert cfg.SOLVER.MAX_ITER == lazy.train.max_iter
    assert (
        list(cfg.SOLVER.STEPS)
        == list(lazy.lr_multiplier.scheduler.milestones)[: len(cfg.SOLVER.STEPS)]
    )
    assert cfg.SOFT_TEACHER.BURN_IN == lazy.train.burn_in
    assert OmegaConf.select(lazy, "dataloader.train.masks") is True
    assert lazy.dataloader.train.mask_format == cfg.INPUT.MASK_FORMAT
    assert list(lazy.dataloader.evaluator.tasks) == ["bbox", "segm"]


@pytest.mark.parametrize("name", COCO)
def test_coco_s_mask_head_is_the_model_zoo_s(name):
    zoo = yaml_config.load_config(
        model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    )
    assert load(name).MODEL.ROI_MASK_HEAD == zoo.MODEL.ROI_MASK_HEAD
