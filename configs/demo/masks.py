"""Instance masks of the digits, on top of soft_teacher.py or supervised.py."""

from detectron2.layers import ShapeSpec

from ..common.masks import use_masks as use_stock_masks
from .base import CHANNELS


def use_masks(model, dataloader) -> None:
    """Changes the config in place."""
    use_stock_masks(model, dataloader, mask_format="bitmask")
    heads = model.student.roi_heads
    heads.mask_in_features = heads.box_in_features
    heads.mask_pooler.scales = heads.box_pooler.scales
    heads.mask_head.update(
        input_shape=ShapeSpec(channels=CHANNELS, width=14, height=14), conv_dims=[48] * 3
    )
