"""mmdetection's names of the tensors of a Faster R-CNN, and Detectron2's."""

import re

__all__ = ["is_dropped", "renamed"]

NORM = r"(?P<kind>weight|bias|running_mean|running_var)"
LAYER = r"(?P<kind>weight|bias)"
BLOCK = r"backbone\.layer(?P<n>\d)\.(?P<block>\d+)\."
RESNET, RPN = "backbone.bottom_up.", "proposal_generator.rpn_head."
PREDICTOR = "roi_heads.box_predictor."
# (pattern, name in Detectron2, what is added to the number n); nothing is transposed.
RULES = (
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
PATTERNS = [(re.compile(pattern), name, added) for pattern, name, added in RULES]


def renamed(name: str) -> str | None:
    """Detectron2's name of a tensor; None if there is none."""
    for pattern, template, added in PATTERNS:
        found = pattern.fullmatch(name)
        if found:
            parts = found.groupdict()
            return template.format(**{**parts, "n": int(parts.get("n") or 0) + added})
    return None


def is_dropped(name: str) -> bool:
    """Whether a detector does without a tensor: BN's counters of batches."""
    return name.endswith(".num_batches_tracked")
