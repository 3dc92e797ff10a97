"""Soft teacher without box jittering: the second row of Table 7, and what Tables 8 and 9 vary."""

from ..paper.soft_teacher_R_50_FPN_partial_180k import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

model.pseudo_labeler.measure_stability = False
train.output_dir = "output/coco/ablation/soft_teacher_without_jitter"
