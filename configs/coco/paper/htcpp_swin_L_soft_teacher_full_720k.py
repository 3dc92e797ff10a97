"""Fully Labeled Data, HTC++ with Swin-L."""

from ...common.htcpp import use_htcpp
from ...common.optimizer import adamw as optimizer
from ..full_720k import dataloader, ema, lr_multiplier, model, train  # noqa: F401

use_htcpp(model, dataloader, optimizer, train)
train.output_dir = "output/coco/paper/htcpp_swin_L_soft_teacher_full_720k"
