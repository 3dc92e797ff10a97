"""Partially Labeled Data, ResNet-50, as the released code has it."""

from ..partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)
from ..reference import use_reference

use_reference(model, dataloader, ema, train)
lr_multiplier.scheduler.milestones = [120_000, 160_000]
train.output_dir = "output/coco/reference/soft_teacher_R_50_FPN_partial_180k"
