"""HTC detectors from the parts of the package and of Detectron2."""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import StandardRPNHead
from detectron2.modeling.roi_heads import FastRCNNConvFCHead

from soft_teacher.modeling import SoftFastRCNNOutputLayers
from soft_teacher.modeling.families.htc import (
    BestAnchorMatcher,
    FusedSemanticHead,
    HTCMaskHead,
    HTCROIHeads,
    InsideAnchorRPN,
)

STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
IOUS = (0.5, 0.6, 0.7)
LEVELS = ("p2", "p3", "p4", "p5")


def pooler(size: int, levels=LEVELS) -> ROIPooler:
    scales = tuple(0.5 ** int(name[1]) for name in levels)
    return ROIPooler(size, scales, sampling_ratio=0, pooler_type="ROIAlignV2")


def box_predictor(channels: int, num_classes: int, stds, **kwargs) -> SoftFastRCNNOutputLayers:
    settings = {
        "cls_agnostic_bbox_reg": True,
        "smooth_l1_beta": 1.0,
        "test_score_thresh": 0.001,
        **kwargs,
    }
    transform = Box2BoxTransform(weights=tuple(1 / s for s in stds))
    return SoftFastRCNNOutputLayers(
        ShapeSpec(channels=channels),
        num_classes=num_classes,
        box2box_transform=transform,
        **settings,
    )


def semantic_head(channels: int, num_classes: int, levels=(*LEVELS, "p6")) -> FusedSemanticHead:
    return FusedSemanticHead(
        in_features=list(levels),
        fused_at="p3",
        stride=8,
        channels=channels,
        num_classes=num_classes,
    )


def htc_heads(
    *,
    channels=32,
    num_classes=6,
    conv_dims=(),
    conv_norm="",
    fc_dim=96,
    semantic_classes=11,
    samples=512,
    positives=0.25,
    predictor=None,
    levels=LEVELS,
    semantic_levels=(*LEVELS, "p6"),
    stds=STDS,
    mask_size=14,
    mask_convs=4,
    cls=HTCROIHeads,
    **kwargs,
) -> HTCROIHeads:
    """``semantic_classes=0``: without the semantic branch; ``predictor``: of box_predictor."""
    if semantic_classes:
        kwargs["semantic_head"] = semantic_head(channels, semantic_classes, semantic_levels)
        kwargs["semantic_pooler"] = pooler(14, ["p3"])
    fcs = [fc_dim] if conv_dims else [fc_dim, fc_dim]
    box, mask = (ShapeSpec(channels=channels, height=n, width=n) for n in (7, mask_size))
    return cls(
        num_classes=num_classes,
        batch_size_per_image=samples,
        positive_fraction=positives,
        box_in_features=list(levels),
        box_pooler=pooler(7, levels),
        box_heads=[
            FastRCNNConvFCHead(box, conv_dims=list(conv_dims), fc_dims=fcs, conv_norm=conv_norm)
            for _ in IOUS
        ],
        box_predictors=[
            box_predictor(fc_dim, num_classes, of_stage, **(predictor or {})) for of_stage in stds
        ],
        proposal_matchers=[Matcher([iou], [0, 1]) for iou in IOUS],
        mask_in_features=list(levels),
        mask_pooler=pooler(mask_size, levels),
        mask_heads=[
            HTCMaskHead(
                mask,
                num_classes=num_classes,
                conv_dims=[channels] * (mask_convs + 1),
                receives=stage > 0,
            )
            for stage in range(len(IOUS))
        ],
        **kwargs,
    )


def htc_rpn(channels=32, cls=InsideAnchorRPN, **kwargs) -> InsideAnchorRPN:
    settings = {
        "batch_size_per_image": 256,
        "positive_fraction": 0.5,
        "pre_nms_topk": (300, 300),
        "post_nms_topk": (150, 150),
        **kwargs,
    }
    return cls(
        in_features=[*LEVELS, "p6"],
        head=StandardRPNHead(in_channels=channels, num_anchors=3),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[[32], [64], [128], [256], [512]],
            aspect_ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32, 64],
            offset=0.0,
        ),
        anchor_matcher=BestAnchorMatcher([0.3, 0.7], [0, -1, 1]),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        smooth_l1_beta=1 / 9,
        **settings,
    )


def random_features(channels=32, images=1, size=(192, 256), seed=0) -> dict[str, torch.Tensor]:
    """Of p2 to p6."""
    g = torch.Generator().manual_seed(seed)
    strides = {name: 2 ** int(name[1]) for name in (*LEVELS, "p6")}
    return {
        name: torch.randn(images, channels, -(-size[0] // s), -(-size[1] // s), generator=g)
        for name, s in strides.items()
    }
