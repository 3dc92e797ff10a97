"""Soft Teacher with a Mask R-CNN in place of the Faster R-CNN."""

from .masks import use_masks
from .soft_teacher import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_masks(model, dataloader)
train.output_dir = "output/demo/mask_soft_teacher_lazy"
