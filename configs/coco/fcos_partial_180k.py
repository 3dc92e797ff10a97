"""partial_180k.py with an FCOS, a row that the paper does not have."""

from ..common.dense import use_fcos
from .partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

use_fcos(model)
train.output_dir = "output/coco/fcos_partial_180k"
