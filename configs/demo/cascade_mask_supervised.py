"""Its baseline: the labeled images alone, with an EMA model of its own."""

from .cascade import use_cascade
from .mask_supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_cascade(model)
train.output_dir = "output/demo/cascade_mask_supervised_lazy"
