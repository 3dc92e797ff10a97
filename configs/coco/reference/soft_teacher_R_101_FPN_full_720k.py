"""Fully Labeled Data, ResNet-101, as the released code has it."""

from ..R_101 import use_resnet_101
from .soft_teacher_R_50_FPN_full_720k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_resnet_101(model, train)
train.output_dir = "output/coco/reference/soft_teacher_R_101_FPN_full_720k"
