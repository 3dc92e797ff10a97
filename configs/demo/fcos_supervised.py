"""Its baseline: the labeled images alone, with an EMA model of its own."""

from .dense import use_fcos
from .supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_fcos(model)
train.output_dir = "output/demo/fcos_supervised_lazy"
