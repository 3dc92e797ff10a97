"""Hybrid Task Cascade on the labeled images alone, with an EMA model of its own."""

from .htc import use_htc
from .supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_htc(model, dataloader, lr_multiplier, train)
train.output_dir = "output/demo/htc_supervised_lazy"
