"""Partially Labeled Data: a share of train2017 has labels, ``split`` says which."""

from .base import dataloader, ema, model, optimizer, train, warmup_multistep  # noqa: F401

split = dict(family="stac", percent=10, fold=1)
name = "coco_2017_${split.family}_${split.percent}p_fold${split.fold}"
dataloader.train.labeled_names = [f"{name}_labeled"]
dataloader.train.unlabeled_names = [f"{name}_unlabeled"]
dataloader.train.update(batch_size=40, labeled_share=0.2, decay_steps=10_000)
train.max_iter = 180_000
lr_multiplier = warmup_multistep(train.max_iter, [110_000, 160_000])
model.alpha = 4.0
