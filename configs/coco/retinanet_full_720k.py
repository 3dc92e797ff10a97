"""full_720k.py with a RetinaNet, a row that the paper does not have."""

from ..common.dense import use_retinanet
from .full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_retinanet(model)
train.output_dir = "output/coco/retinanet_full_720k"
