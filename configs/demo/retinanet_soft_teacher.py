"""Soft Teacher with a RetinaNet in place of the Faster R-CNN."""

from .dense import use_retinanet
from .soft_teacher import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

use_retinanet(model)
# At a score of 0.5 a teacher that finds little has its students find less, until nothing is left.
model.pseudo_labeler.by_density = True
model.pseudo_labeler.density.update(foreground=0.6, regression=0.4)
# A dense head takes longer from random weights to a teacher worth learning from.
train.burn_in = 800
train.output_dir = "output/demo/retinanet_soft_teacher_lazy"
