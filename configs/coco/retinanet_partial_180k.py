"""partial_180k.py with a RetinaNet, a row that the paper does not have."""

from ..common.dense import use_retinanet
from .partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

use_retinanet(model)
train.output_dir = "output/coco/retinanet_partial_180k"
