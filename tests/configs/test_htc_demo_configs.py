"""The demo's HTC: a small one with the released stages, on the data of the other demo runs."""

import pytest
import torch
from coco import ROOT
from detectron2.config import instantiate
from omegaconf import OmegaConf

from soft_teacher.experiment import lazy_config
from soft_teacher.modeling import HTCFamily
from soft_teacher.modeling.backbones.swin import Swin

NAMES = ("htc_supervised", "htc_soft_teacher", "htc_swin")
every_config = pytest.mark.parametrize("name", NAMES)


def load(name):
    return lazy_config.load_config(str(ROOT / f"configs/demo/{name}.py"), ["train.device=cpu"])


def build(cfg):
    with torch.device("meta"):
        return instantiate(cfg.model)


@every_config
def test_it_builds_three_stages_and_a_semantic_branch_for_the_digits(name):
    model = build(load(name))
    heads = model.student.roi_heads
    assert isinstance(model.family, HTCFamily)
    assert heads.num_cascade_stages == 3 and heads.stage_weights == (1, 0.5, 0.25)
    assert model.family.num_classes(model.student) == 5
    assert model.family.semantic_classes(model.student) == 6
    assert sum(p.numel() for p in model.student.parameters()) < 4e6


@every_config
def test_model_and_loader_agree(name):
    cfg = load(name)
    loader = cfg.dataloader.train
    assert loader.masks and loader.mask_format == "bitmask"
    assert instantiate(loader.semantic_maps).num_classes == 6
    assert list(cfg.dataloader.evaluator.tasks) == ["bbox", "segm"]


def test_the_images_are_those_of_the_other_runs():
    for name, other in (("htc_supervised", "supervised"), ("htc_soft_teacher", "soft_teacher")):
        ours, theirs = (load(n).dataloader.train for n in (name, other))
        keys = ("labeled_names", "unlabeled_names", "batch_size", "labeled_share")
        assert [ours[k] for k in keys] == [theirs[k] for k in keys]
        assert ours.strong_augmentations.max_angle == 0
        for view in ("labeled_augmentations", "strong_augmentations", "weak_augmentations"):
            assert OmegaConf.to_container(ours[view]) == OmegaConf.to_container(theirs[view])


def test_the_method_is_that_of_the_other_detectors():
    ours, theirs = (load(n).model for n in ("htc_soft_teacher", "soft_teacher"))
    assert (ours.alpha, ours.student.roi_heads.cls_formula) == (2, "reference")
    for key in ("indicator", "cls_formula", "reg_normalizer", "average"):
        assert ours.student.roi_heads[key] == theirs.student.roi_heads[key]
    for key in ("alpha", "pseudo_labeler"):
        assert ours[key] == theirs[key]


def test_swin_trains_300_steps_with_stochastic_depth():
    cfg = load("htc_swin")
    model = build(cfg)
    assert cfg.train.max_iter == 300 == cfg.lr_multiplier.scheduler.milestones[-1]
    assert isinstance(model.student.backbone.bottom_up, Swin)
    assert set(model.student.backbone.output_shape()) == {"p2", "p3", "p4"}
