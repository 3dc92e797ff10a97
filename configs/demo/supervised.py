"""The baseline: the labeled images alone, with an EMA model of its own."""

from .base import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

train.output_dir = "output/demo/supervised_lazy"
