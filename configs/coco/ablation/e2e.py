"""End to end, the student its own teacher."""

from .e2e_ema import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

ema.momentum = 0.0
train.eval_networks = ["student"]
train.output_dir = "output/coco/ablation/e2e"
