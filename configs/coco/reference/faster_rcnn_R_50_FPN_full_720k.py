"""The supervised baseline of Fully Labeled Data, ResNet-50, as the released code has it."""

from ..supervised_full import use_labels_only
from .soft_teacher_R_50_FPN_full_720k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_labels_only(dataloader, optimizer)
train.output_dir = "output/coco/reference/faster_rcnn_R_50_FPN_full_720k"
