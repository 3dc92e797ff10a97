"""An HTC with a tiny Swin, and the weights of mmdetection's under its names."""

import re

import numpy as np
import torch
from detectron2.modeling import FPN, SwinTransformer
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from htc import htc_heads, htc_rpn

from soft_teacher.modeling.families.htc import HybridTaskCascade
from soft_teacher.modeling.weights.swin import swin_from_mmdet

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HEADS = "roi_heads."
NAMES = (
    (r"^neck\.lateral_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
    (r"^rpn_head\.rpn_conv\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn_head\.rpn_cls\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn_head\.rpn_reg\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^roi_head\.bbox_head\.(\d)\.fc_cls\.", rf"{HEADS}box_predictor.\1.cls_score."),
    (r"^roi_head\.bbox_head\.(\d)\.fc_reg\.", rf"{HEADS}box_predictor.\1.bbox_pred."),
    (
        r"^roi_head\.bbox_head\.(\d)\.shared_fcs\.(\d)\.",
        lambda m: f"{HEADS}box_head.{m[1]}.fc{int(m[2]) + 1}.",
    ),
    (
        r"^roi_head\.mask_head\.(\d)\.convs\.(\d)\.conv\.",
        lambda m: f"{HEADS}mask_head.{m[1]}.mask_fcn{int(m[2]) + 1}.",
    ),
    (r"^roi_head\.mask_head\.(\d)\.upsample\.", rf"{HEADS}mask_head.\1.deconv."),
    (r"^roi_head\.mask_head\.(\d)\.conv_logits\.", rf"{HEADS}mask_head.\1.predictor."),
    (r"^roi_head\.mask_head\.(\d)\.conv_res\.conv\.", rf"{HEADS}mask_head.\1.conv_res."),
    (r"^roi_head\.semantic_head\.(\w+_convs|convs)\.(\d)\.conv\.", rf"{HEADS}semantic_head.\1.\2."),
    (r"^roi_head\.semantic_head\.conv_embedding\.conv\.", f"{HEADS}semantic_head.embedding."),
    (r"^roi_head\.semantic_head\.conv_logits\.", f"{HEADS}semantic_head.predictor."),
)


def from_mmdet(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """State dict of :func:`detector`, or of parts of it."""
    state = {key: torch.as_tensor(np.float32(value)) for key, value in weights.items()}
    swin = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    renamed = {f"backbone.bottom_up.{k}": v for k, v in swin_from_mmdet(swin).items()}
    for key in state:
        if not key.startswith("backbone."):
            renamed[_rename(key)] = state[key]
    return renamed


def _rename(key):
    for pattern, name in NAMES:
        if re.match(pattern, key):
            return re.sub(pattern, name, key)
    raise KeyError(key)


def tiny_swin(**kwargs) -> SwinTransformer:
    return SwinTransformer(
        embed_dim=16, depths=[2, 2, 2, 2], num_heads=[2, 2, 4, 4], drop_path_rate=0.0, **kwargs
    )


def detector(rpn=None, **heads) -> HybridTaskCascade:
    return HybridTaskCascade(
        backbone=FPN(tiny_swin(), ["p0", "p1", "p2", "p3"], 32, top_block=LastLevelMaxPool()),
        proposal_generator=rpn or htc_rpn(),
        roi_heads=htc_heads(**heads),
        pixel_mean=MEAN,
        pixel_std=STD,
    )
