"""An HTC with a tiny Swin, and the weights of mmdetection's under its names."""

import numpy as np
import torch
from detectron2.modeling import FPN, SwinTransformer
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from htc import htc_heads, htc_rpn

from soft_teacher.deploy.convert.rules import DETECTORS, renamed
from soft_teacher.modeling.families.htc import HybridTaskCascade
from soft_teacher.modeling.weights.swin import swin_from_mmdet

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def from_mmdet(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """State dict of :func:`detector`, or of parts of it."""
    state = {key: torch.as_tensor(np.float32(value)) for key, value in weights.items()}
    swin = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    found = {f"backbone.bottom_up.{k}": v for k, v in swin_from_mmdet(swin).items()}
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    return found | {renamed(key, DETECTORS): value for key, value in rest.items()}


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


# Detectron2's names, in order of the first match, and what mmdetection says instead.
BACKWARDS = (
    ("backbone.bottom_up.global_attention.mlp.", "neck.0.ffn."),
    ("backbone.bottom_up.global_attention.", "neck.0."),
    ("patch_embed.proj.", "patch_embed.projection."),
    ("backbone.bottom_up.layers.", "backbone.stages."),
    ("backbone.bottom_up.", "backbone."),
    (".attn.", ".attn.w_msa."),
    (".mlp.fc1.", ".ffn.layers.0.0."),
    (".mlp.fc2.", ".ffn.layers.1."),
    *((f"backbone.fpn_lateral{n + 2}.", f"{{neck}}lateral_convs.{n}.conv.") for n in range(4)),
    *((f"backbone.fpn_output{n + 2}.", f"{{neck}}fpn_convs.{n}.conv.") for n in range(4)),
    ("proposal_generator.rpn_head.conv.", "rpn_head.rpn_conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn_head.rpn_cls."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn_head.rpn_reg."),
    ("roi_heads.box_head.", "roi_head.bbox_head."),
    ("roi_heads.box_predictor.", "roi_head.bbox_head."),
    ("roi_heads.", "roi_head."),
    (".cls_score.", ".fc_cls."),
    (".bbox_pred.", ".fc_reg."),
    *((f".mask_fcn{n + 1}.", f".convs.{n}.conv.") for n in range(4)),
    (".deconv.", ".upsample."),
    (".conv_res.", ".conv_res.conv."),
    (".embedding.", ".conv_embedding.conv."),
    (".predictor.", ".conv_logits."),
)


def as_mmdet(network) -> dict[str, torch.Tensor]:
    """The state dict that mmdetection would have of a HTC with a Swin; its order is ours."""
    extra = any("global_attention" in name for name in network.state_dict())
    return {
        _backwards(name, "neck.1." if extra else "neck."): _unordered(name, value)
        for name, value in network.state_dict().items()
    }


def _backwards(name: str, neck: str) -> str:
    is_attention = "global_attention" in name
    for ours, theirs in BACKWARDS:
        if not (is_attention and ours in (".attn.", ".mlp.fc1.", ".mlp.fc2.")):
            name = name.replace(ours, theirs.format(neck=neck))
    for kind in ("conv", "fc"):  # of box heads
        for n in range(1, 5):
            theirs = f"shared_{kind}s.{n - 1}." + "conv." * (kind == "conv")
            name = name.replace(f".{kind}{n}.", f".{theirs}") if "bbox_head" in name else name
    if "semantic_head" in name:
        for part in ("lateral_convs", "convs"):
            for n in range(5):
                name = name.replace(f".{part}.{n}.", f".{part}.{n}.conv.")
    return name


def _unordered(name: str, value: torch.Tensor) -> torch.Tensor:
    """What patch merging reads, channel by channel: pixels (0,0), (0,1), (1,0), (1,1) of each."""
    if ".downsample." not in name:
        return value.clone()
    pixels = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return pixels.transpose(-1, -2).flatten(-2).clone()
