"""Fully Labeled Data, ResNet-50."""

from ..full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

train.output_dir = "output/coco/paper/soft_teacher_R_50_FPN_full_720k"
