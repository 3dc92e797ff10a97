"""The supervised baseline of Partially Labeled Data, ResNet-50, as the released code has it."""

from ..supervised_partial import use_labels_only
from .soft_teacher_R_50_FPN_partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

use_labels_only(dataloader)
train.output_dir = "output/coco/reference/faster_rcnn_R_50_FPN_partial_180k"
