"""full_720k.py with a Cascade Mask R-CNN, a row that the paper does not have."""

from ..common.cascade import use_cascade
from .mask_full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_cascade(model)
train.output_dir = "output/coco/cascade_mask_full_720k"
