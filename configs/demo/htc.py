"""An HTC of small heads, on top of soft_teacher.py or supervised.py: 1,200 steps.

The semantic maps are painted from the digits' masks: five digits, and everything else.
"""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from soft_teacher.data.semantic_maps import InstanceMaps

from ..common.htc import use_htc as use_stock_htc
from .base import CHANNELS

FC_DIM = 128
STEPS = 1200
# Where boxes come from is that of the Faster R-CNN.
OF_PROPOSALS = (
    *("in_features", "head", "anchor_generator"),
    *("batch_size_per_image", "pre_nms_topk", "post_nms_topk"),
)


def use_htc(model, dataloader, lr_multiplier, train, *, steps: int = STEPS) -> None:
    """Changes the config in place."""
    small = model.student
    use_stock_htc(model, dataloader, L(InstanceMaps)(num_classes=6), mask_format="bitmask")
    detector = model.student
    detector.backbone = small.backbone
    detector.proposal_generator.update({key: small.proposal_generator[key] for key in OF_PROPOSALS})
    _shrink(detector.roi_heads, small.roi_heads)
    train.max_iter = steps
    lr_multiplier.scheduler.milestones = [steps * 5 // 6, steps]
    lr_multiplier.warmup_length = 100 / steps


def _shrink(heads, small) -> None:
    levels, scales = small.box_in_features, small.box_pooler.scales
    heads.update(num_classes=small.num_classes, batch_size_per_image=small.batch_size_per_image)
    heads.update(box_in_features=levels, mask_in_features=levels)
    heads.box_pooler.scales = heads.mask_pooler.scales = scales
    for head, predictor, mask_head in zip(heads.box_heads, heads.box_predictors, heads.mask_heads):
        head.update(input_shape=small.box_head.input_shape, fc_dims=[FC_DIM])
        predictor.input_shape = ShapeSpec(channels=FC_DIM)
        # Images have at most 5 objects.
        predictor.update(test_score_thresh=0.05, test_topk_per_image=20)
        mask_head.input_shape = ShapeSpec(channels=CHANNELS, width=14, height=14)
        mask_head.conv_dims = [CHANNELS] * 4
    heads.semantic_head.update(in_features=["p2", "p3", "p4"], channels=CHANNELS, num_convs=2)
