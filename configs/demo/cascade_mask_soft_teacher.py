"""Soft Teacher with a Cascade Mask R-CNN in place of the Faster R-CNN."""

from .cascade import use_cascade
from .mask_soft_teacher import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_cascade(model)
train.output_dir = "output/demo/cascade_mask_soft_teacher_lazy"
