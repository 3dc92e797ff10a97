"""partial_180k.py with a Cascade Mask R-CNN, a row that the paper does not have."""

from ..common.cascade import use_cascade
from .mask_partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

use_cascade(model)
train.output_dir = "output/coco/cascade_mask_partial_180k"
