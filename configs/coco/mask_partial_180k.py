"""partial_180k.py with instance masks, a row that the paper does not have."""

from ..common.masks import use_masks
from .partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

use_masks(model, dataloader)
train.output_dir = "output/coco/mask_partial_180k"
