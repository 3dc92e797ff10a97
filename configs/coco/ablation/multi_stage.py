"""The second stage of two: labels that a supervised detector gave once (soft-teacher-label)."""

from .e2e import (  # noqa: F401
    dataloader,
    ema,
    lr_multiplier,
    model,
    optimizer,
    split,
    train,
)

labels = "output/coco/labels/${split.family}_${split.percent}p_fold${split.fold}.json"
dataloader.train.unlabeled_names = [labels]
train.label_source = "dataset"
train.output_dir = "output/coco/ablation/multi_stage"
