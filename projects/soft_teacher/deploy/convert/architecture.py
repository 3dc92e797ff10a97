"""The Detectron2 config of a detector, read off the shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from ...experiment.config_checks import rehearsal
from ...utils.errors import ConfigError
from .source_config import Pixels

__all__ = ["check_tensors", "detector_config"]

RESNET = "backbone.bottom_up."
STAGES = ("res2", "res3", "res4", "res5")
# Blocks of each stage -> depth.
DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}


def detector_config(
    weights: Mapping[str, torch.Tensor], *, style: str, pixels: Pixels, thresholds: Mapping = {}
) -> CfgNode:
    """A stock config of a Faster R-CNN with FPN as mmdetection trains it.

    Args:
        weights: of one network, by Detectron2's names.
        style, pixels, thresholds: see :class:`.source_config.SourceConfig`.

    Raises:
        ConfigError: there is no such detector.
    """
    cfg = get_cfg()
    model = cfg.MODEL
    model.META_ARCHITECTURE = "GeneralizedRCNN"
    model.PIXEL_MEAN, model.PIXEL_STD = list(pixels.mean), list(pixels.std)
    cfg.INPUT.FORMAT = pixels.image_format
    model.BACKBONE.NAME = "build_resnet_fpn_backbone"
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = list(STAGES)
    model.RESNETS.DEPTH = _depth(weights)
    model.RESNETS.STRIDE_IN_1X1 = style == "caffe"
    model.RESNETS.STEM_OUT_CHANNELS = _rows(weights, f"{RESNET}stem.conv1.weight")
    model.RESNETS.WIDTH_PER_GROUP = _rows(weights, f"{RESNET}res2.0.conv1.weight")
    model.RESNETS.RES2_OUT_CHANNELS = _rows(weights, f"{RESNET}res2.0.conv3.weight")
    model.FPN.OUT_CHANNELS = _rows(weights, "backbone.fpn_lateral2.weight")
    model.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.PRE_NMS_TOPK_TEST = model.RPN.POST_NMS_TOPK_TEST = 1000
    model.ROI_HEADS.NAME = "StandardROIHeads"
    model.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    model.ROI_HEADS.NUM_CLASSES = _rows(weights, "roi_heads.box_predictor.cls_score.weight") - 1
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = _count(weights, r"roi_heads\.box_head\.fc(\d)\.weight")
    model.ROI_BOX_HEAD.FC_DIM = _rows(weights, "roi_heads.box_head.fc1.weight")
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.merge_from_list([item for pair in thresholds.items() for item in pair])
    return cfg


def check_tensors(cfg: CfgNode, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises ConfigError unless the tensors are exactly those of the detector, without memory."""
    bare = cfg.clone()
    bare.MODEL.DEVICE = "meta"
    with rehearsal("the converted detector"):
        expected = build_model(bare).state_dict()
    for name, value in expected.items():
        if name not in weights:
            raise ConfigError(f"there is nothing for Detectron2's '{name}'")
        if weights[name].shape != value.shape:
            found, wanted = (" x ".join(map(str, t.shape)) for t in (weights[name], value))
            raise ConfigError(f"what becomes '{name}' is {found}, Detectron2 has {wanted}")
    for name in weights.keys() - expected.keys():
        raise ConfigError(f"Detectron2's detector has no '{name}'")


def _depth(weights: Mapping[str, torch.Tensor]) -> int:
    blocks = tuple(_count(weights, rf"{RESNET}{stage}\.(\d+)\.conv1\.weight") for stage in STAGES)
    is_bottleneck = f"{RESNET}res2.0.conv3.weight" in weights
    if blocks not in DEPTHS or not is_bottleneck:
        kind = "bottleneck" if is_bottleneck else "basic"
        raise ConfigError(
            f"its backbone has {', '.join(map(str, blocks))} {kind} blocks: only ResNets of depth "
            f"{' and '.join(map(str, DEPTHS.values()))} are converted"
        )
    return DEPTHS[blocks]


def _rows(weights: Mapping[str, torch.Tensor], name: str) -> int:
    if name not in weights:
        raise ConfigError(f"there is nothing for Detectron2's '{name}'")
    return weights[name].shape[0]


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    return len([name for name in weights if re.fullmatch(pattern, name)])
