"""full_720k.py with instance masks, a row that the paper does not have."""

from ..common.masks import use_masks
from .full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_masks(model, dataloader)
train.output_dir = "output/coco/mask_full_720k"
