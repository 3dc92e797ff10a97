"""Fully Labeled Data, ResNet-50, as the released code has it."""

from ..full_720k import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401
from ..reference import use_reference

use_reference(model, dataloader, ema, train)
lr_multiplier.scheduler.milestones = [480_000, 640_000]
train.output_dir = "output/coco/reference/soft_teacher_R_50_FPN_full_720k"
