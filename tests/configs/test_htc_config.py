"""The LazyConfig of HTC builds the detector that it describes."""

import pytest
import torch
from coco import ROOT
from detectron2.config import LazyConfig, instantiate

from soft_teacher.modeling import HTCROIHeads, HybridTaskCascade


@pytest.fixture
def cfg():
    return LazyConfig.load(str(ROOT / "configs/common/htc_model.py")).detector


def build(cfg):
    with torch.device("meta"):
        return instantiate(cfg)


def test_it_has_three_stages_with_the_released_values(cfg):
    model = build(cfg)
    heads = model.roi_heads
    assert isinstance(model, HybridTaskCascade) and isinstance(heads, HTCROIHeads)
    assert [m.thresholds[1] for m in heads.proposal_matchers] == [0.5, 0.6, 0.7]
    assert heads.stage_weights == (1, 0.5, 0.25) and heads.mask_merge == "last"
    assert [p.box2box_transform.weights[2] for p in heads.box_predictor] == pytest.approx(
        [5, 10, 1 / 0.067]
    )
    assert [hasattr(head, "conv_res") for head in heads.mask_head] == [False, True, True]
    assert heads.semantic_head.predictor.out_channels == 183
    assert {head.predictor.out_channels for head in heads.mask_head} == {80}


def test_one_number_sets_the_classes_of_all_heads(cfg):
    cfg.roi_heads.num_classes = 3
    heads = build(cfg).roi_heads
    assert {p.cls_score.out_features for p in heads.box_predictor} == {4}
    assert {head.predictor.out_channels for head in heads.mask_head} == {3}


def test_the_semantic_branch_can_be_switched_off(cfg):
    cfg.roi_heads.semantic_head = None
    names = {name.split(".")[1] for name, _ in build(cfg).named_parameters() if "roi_heads" in name}
    assert names == {"box_head", "box_predictor", "mask_head"}


def test_box_heads_can_have_four_convolutions_and_a_norm(cfg):
    for head in cfg.roi_heads.box_heads:
        head.update(conv_dims=[256] * 4, fc_dims=[1024], conv_norm="SyncBN")
    for head in build(cfg).roi_heads.box_head:
        assert isinstance(head.conv4.norm, torch.nn.SyncBatchNorm) and len(head.fcs) == 1
