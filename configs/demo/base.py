"""The detector and the data of the embedded dataset, as base.yaml describes them."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from soft_teacher.demo import small_resnet_fpn

from ..common.data import dataloader_of
from ..common.model import model
from ..common.optimizer import adamw as optimizer  # noqa: F401
from ..common.train import ema, train

CHANNELS = 48
FC_DIM = 256

detector = model.student
detector.backbone = L(small_resnet_fpn)(
    stem_channels=16,
    stage_channels=(24, 48, 96),
    blocks=(1, 1, 1),
    out_channels=CHANNELS,
    norm="BN",
)
detector.proposal_generator.update(
    in_features=["p2", "p3", "p4"],
    batch_size_per_image=64,
    pre_nms_topk=(200, 200),
    post_nms_topk=(200, 100),
)
detector.proposal_generator.head.update(in_channels=CHANNELS, num_anchors=2)
detector.proposal_generator.anchor_generator.update(
    sizes=[[18], [28], [44]], aspect_ratios=[1.0, 1.6], strides=[4, 8, 16]
)
heads = detector.roi_heads
heads.update(num_classes=5, batch_size_per_image=64)
heads.update(box_in_features=["p2", "p3"])
heads.box_pooler.scales = (1 / 4, 1 / 8)
heads.box_head.update(input_shape=ShapeSpec(channels=CHANNELS, height=7, width=7), fc_dims=[FC_DIM])
heads.box_predictor.input_shape = ShapeSpec(channels=FC_DIM)

# A mirrored digit is no digit; the box around a turned tight box is too large.
view = dict(short_edge=128, max_size=192, scale_range=(0.8, 1.2), flip=False, max_angle=0.0)
dataloader = dataloader_of("digits_val", view, num_workers=0)
dataloader.test_aug.update(min_sizes=[96, 128, 160], max_size=240, flip=False)
dataloader.train.update(labeled_names=["digits_fold1_labeled"], unlabeled_names=[])
dataloader.train.update(batch_size=4, labeled_share=1.0, decay_steps=0)

train.update(output_dir="output/demo", max_iter=1800, eval_period=600)
train.checkpointer.update(period=300, max_to_keep=100)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[1500, 1800]),
    warmup_length=100 / 1800,
    warmup_factor=0.001,
)
ema.momentum = 0.99
