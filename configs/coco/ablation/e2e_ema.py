"""End to end with an EMA teacher, every background box as good as another."""

from .soft_teacher_without_jitter import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

model.student.roi_heads.indicator = "none"
train.output_dir = "output/coco/ablation/e2e_ema"
