"""Fully Labeled Data: all of train2017 has labels, unlabeled2017 comes on top."""

from .base import dataloader, ema, model, optimizer, train, warmup_multistep  # noqa: F401

dataloader.train.labeled_names = ["coco_2017_full_labeled"]
dataloader.train.unlabeled_names = ["coco_2017_full_unlabeled"]
dataloader.train.update(batch_size=64, labeled_share=0.5, decay_steps=20_000)
train.max_iter = 720_000
lr_multiplier = warmup_multistep(train.max_iter, [480_000, 680_000])
model.alpha = 2.0
