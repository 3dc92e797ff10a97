"""mmdetection's names of the tensors of R-CNNs, and Detectron2's."""

import re

__all__ = ["DETECTORS", "FASTER_RCNN", "is_dropped", "renamed"]

NORM = r"(?P<kind>weight|bias|running_mean|running_var)"
LAYER = r"(?P<kind>weight|bias)"
BLOCK = r"backbone\.layer(?P<n>\d)\.(?P<block>\d+)\."
RESNET, RPN = "backbone.bottom_up.", "proposal_generator.rpn_head."
PREDICTOR = "roi_heads.box_predictor."
STAGE = r"(?P<stage>\.\d)?\."
BN = r"(?P<kind>weight|bias|running_mean|running_var|num_batches_tracked)"
# A neck that consists of several parts numbers them.
NECK = r"neck\.(?:\d\.)?"
MASK, SEMANTIC = r"roi_head\.mask_head" + STAGE, r"roi_head\.semantic_head\."
# (pattern, name in Detectron2, what is added to the number n); nothing is transposed.
FASTER_RCNN = (
    (r"backbone\.conv1\.weight", RESNET + "stem.conv1.weight", 0),
    (rf"backbone\.bn1\.{NORM}", RESNET + "stem.conv1.norm.{kind}", 0),
    (BLOCK + r"conv(?P<conv>\d)\.weight", RESNET + "res{n}.{block}.conv{conv}.weight", 1),
    (BLOCK + rf"bn(?P<conv>\d)\.{NORM}", RESNET + "res{n}.{block}.conv{conv}.norm.{kind}", 1),
    (BLOCK + r"downsample\.0\.weight", RESNET + "res{n}.{block}.shortcut.weight", 1),
    (BLOCK + rf"downsample\.1\.{NORM}", RESNET + "res{n}.{block}.shortcut.norm.{kind}", 1),
    (rf"neck\.lateral_convs\.(?P<n>\d)\.conv\.{LAYER}", "backbone.fpn_lateral{n}.{kind}", 2),
    (rf"neck\.fpn_convs\.(?P<n>\d)\.conv\.{LAYER}", "backbone.fpn_output{n}.{kind}", 2),
    (rf"rpn_head\.rpn_conv\.{LAYER}", RPN + "conv.{kind}", 0),
    (rf"rpn_head\.rpn_cls\.{LAYER}", RPN + "objectness_logits.{kind}", 0),
    (rf"rpn_head\.rpn_reg\.{LAYER}", RPN + "anchor_deltas.{kind}", 0),
    (rf"roi_head\.bbox_head\.shared_fcs\.(?P<n>\d)\.{LAYER}", "roi_heads.box_head.fc{n}.{kind}", 1),
    (rf"roi_head\.bbox_head\.fc_cls\.{LAYER}", PREDICTOR + "cls_score.{kind}", 0),
    (rf"roi_head\.bbox_head\.fc_reg\.{LAYER}", PREDICTOR + "bbox_pred.{kind}", 0),
)
# Those, and what cascades, masks, Hybrid Task Cascades and attention after the backbone add.
DETECTORS = (
    *FASTER_RCNN,
    (NECK + rf"lateral_convs\.(?P<n>\d)\.conv\.{LAYER}", "backbone.fpn_lateral{n}.{kind}", 2),
    (NECK + rf"lateral_convs\.(?P<n>\d)\.[bg]n\.{BN}", "backbone.fpn_lateral{n}.norm.{kind}", 2),
    (NECK + rf"fpn_convs\.(?P<n>\d)\.conv\.{LAYER}", "backbone.fpn_output{n}.{kind}", 2),
    (NECK + rf"fpn_convs\.(?P<n>\d)\.[bg]n\.{BN}", "backbone.fpn_output{n}.norm.{kind}", 2),
    (
        rf"neck\.\d\.(?P<part>norm[12]|final_norm|attn\.qkv|attn\.proj)\.{LAYER}",
        "backbone.bottom_up.global_attention.{part}.{kind}",
        0,
    ),
    (
        rf"neck\.\d\.ffn\.fc(?P<n>\d)\.{LAYER}",
        "backbone.bottom_up.global_attention.mlp.fc{n}.{kind}",
        0,
    ),
    (
        rf"roi_head\.bbox_head{STAGE}shared_convs\.(?P<n>\d)\.conv\.{LAYER}",
        "roi_heads.box_head{stage}.conv{n}.{kind}",
        1,
    ),
    (
        rf"roi_head\.bbox_head{STAGE}shared_convs\.(?P<n>\d)\.[bg]n\.{BN}",
        "roi_heads.box_head{stage}.conv{n}.norm.{kind}",
        1,
    ),
    (
        rf"roi_head\.bbox_head{STAGE}shared_fcs\.(?P<n>\d)\.{LAYER}",
        "roi_heads.box_head{stage}.fc{n}.{kind}",
        1,
    ),
    (
        rf"roi_head\.bbox_head{STAGE}fc_cls\.{LAYER}",
        "roi_heads.box_predictor{stage}.cls_score.{kind}",
        0,
    ),
    (
        rf"roi_head\.bbox_head{STAGE}fc_reg\.{LAYER}",
        "roi_heads.box_predictor{stage}.bbox_pred.{kind}",
        0,
    ),
    (
        MASK + rf"convs\.(?P<n>\d)\.conv\.{LAYER}",
        "roi_heads.mask_head{stage}.mask_fcn{n}.{kind}",
        1,
    ),
    (MASK + rf"upsample\.{LAYER}", "roi_heads.mask_head{stage}.deconv.{kind}", 0),
    (MASK + rf"conv_logits\.{LAYER}", "roi_heads.mask_head{stage}.predictor.{kind}", 0),
    (MASK + rf"conv_res\.conv\.{LAYER}", "roi_heads.mask_head{stage}.conv_res.{kind}", 0),
    (
        SEMANTIC + rf"(?P<part>lateral_convs\.\d|convs\.\d)\.conv\.{LAYER}",
        "roi_heads.semantic_head.{part}.{kind}",
        0,
    ),
    (SEMANTIC + rf"conv_embedding\.conv\.{LAYER}", "roi_heads.semantic_head.embedding.{kind}", 0),
    (SEMANTIC + rf"conv_logits\.{LAYER}", "roi_heads.semantic_head.predictor.{kind}", 0),
)


def renamed(name: str, rules: tuple = FASTER_RCNN) -> str | None:
    """Detectron2's name of a tensor; None if there is none.

    Args:
        rules: :data:`FASTER_RCNN` or :data:`DETECTORS`.
    """
    for pattern, template, added in rules:
        found = re.fullmatch(pattern, name)
        if found:
            parts = {key: part or "" for key, part in found.groupdict().items()}
            return template.format(**{**parts, "n": int(parts.get("n") or 0) + added})
    return None


def is_dropped(name: str) -> bool:
    """Whether a detector does without a tensor: BN's counters of batches."""
    return name.endswith(".num_batches_tracked")
