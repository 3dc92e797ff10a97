"""Partially Labeled Data, ResNet-50."""

from ..partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

train.output_dir = "output/coco/paper/soft_teacher_R_50_FPN_partial_180k"
