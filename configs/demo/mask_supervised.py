"""Its baseline: the labeled images alone, with an EMA model of its own."""

from .masks import use_masks
from .supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_masks(model, dataloader)
train.output_dir = "output/demo/mask_supervised_lazy"
