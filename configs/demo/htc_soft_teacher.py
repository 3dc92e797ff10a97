"""Soft Teacher with a Hybrid Task Cascade in place of the Faster R-CNN."""

from .htc import use_htc
from .soft_teacher import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_htc(model, dataloader, lr_multiplier, train)
train.burn_in = 350
train.output_dir = "output/demo/htc_soft_teacher_lazy"
