"""full_720k.py with an FCOS, a row that the paper does not have."""

from ..common.dense import use_fcos
from .full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_fcos(model)
train.output_dir = "output/coco/fcos_full_720k"
