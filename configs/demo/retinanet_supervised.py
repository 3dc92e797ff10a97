"""Its baseline: the labeled images alone, with an EMA model of its own."""

from .dense import use_retinanet
from .supervised import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_retinanet(model)
train.output_dir = "output/demo/retinanet_supervised_lazy"
