"""Soft Teacher: the same labeled images and steps, and unlabeled images besides."""

from .base import dataloader, ema, lr_multiplier, model, optimizer, train  # noqa: F401

dataloader.train.unlabeled_names = ["digits_fold1_unlabeled", "digits_unlabeled"]
dataloader.train.batch_size = 10
dataloader.train.labeled_share = 0.4
model.alpha = 2.0
model.pseudo_labeler.score_thresh = 0.8
model.student.roi_heads.update(cls_formula="reference", reg_normalizer="samples")
train.burn_in = 500
train.output_dir = "output/demo/soft_teacher_lazy"
