"""The supervised baseline of Fully Labeled Data, HTC++ with Swin-L: 16 GPUs x 1."""

from ..supervised_partial import use_labels_only
from .htcpp_swin_L_soft_teacher_full_720k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    train,
)

use_labels_only(dataloader)
dataloader.train.batch_size = 16
train.output_dir = "output/coco/paper/htcpp_swin_L_supervised_full_720k"
