"""Soft Teacher: the same labeled images and steps, and unlabeled images besides."""

from .base import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

dataloader.train.unlabeled_names = ["digits_unlabeled"]
dataloader.train.batch_size = 12
dataloader.train.labeled_share = 1 / 3
model.pseudo_labeler.score_thresh = 0.8
train.burn_in = 500
train.output_dir = "output/demo/soft_teacher_lazy"
