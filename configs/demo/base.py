"""The detector and the data of the embedded dataset, as base.yaml describes them."""

import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import ShapeSpec
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import MultiStepParamScheduler

from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.demo import small_resnet_fpn
from soft_teacher.engine import EMAHook
from soft_teacher.modeling import (
    BoxJitter,
    FasterRCNNFamily,
    PseudoLabeler,
    SoftFastRCNNOutputLayers,
    SoftTeacher,
    SoftTeacherROIHeads,
)

CHANNELS = 48
FC_DIM = 256

detector = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
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
heads._target_ = SoftTeacherROIHeads
heads.update(num_classes=5, batch_size_per_image=64)
heads.update(box_in_features=["p2", "p3"])
heads.box_pooler.scales = (1 / 4, 1 / 8)
heads.update(indicator="bg_teacher", cls_formula="paper")
heads.update(reg_normalizer="foreground", average="image")
heads.box_head.update(input_shape=ShapeSpec(channels=CHANNELS, height=7, width=7), fc_dims=[FC_DIM])
heads.box_predictor._target_ = SoftFastRCNNOutputLayers
heads.box_predictor.input_shape = ShapeSpec(channels=FC_DIM)
for key in ("mask_in_features", "mask_pooler", "mask_head"):
    del heads[key]

model = L(SoftTeacher)(
    student=detector,
    family=L(FasterRCNNFamily)(
        jitter=L(BoxJitter)(
            num=10, scale=0.06, distribution="uniform", normalizer="candidate", clip=False
        ),
        rpn_on_unlabeled=True,
        teacher_proposals="test",
    ),
    pseudo_labeler=L(PseudoLabeler)(
        score_thresh=0.9, candidate_thresh=0.5, variance_thresh=0.02, measure_stability=True
    ),
    alpha=4.0,
    label_source="${train.label_source}",
)

view = dict(short_edge=128, max_size=192, scale_range=(0.8, 1.2), flip=False, max_angle=4.0)
dataloader = dict(
    train=L(build_two_stream_train_loader)(
        labeled_names=["digits_fold1_labeled"],
        unlabeled_names=[],
        labeled_augmentations=L(build_policy)(name="labeled", variant="paper", **view),
        strong_augmentations=L(build_policy)(name="strong", variant="paper", **view),
        weak_augmentations=L(build_policy)(name="weak", variant="paper", **view),
        image_format="BGR",
        max_pixels=180_000_000,
        batch_size=4,
        labeled_share=1.0,
        decay_steps=0,
        draw="global",
        aspect_ratio_grouping=True,
        max_unreadable=0.01,
        chunks=1,
        hidden_labels=True,
        label_source="${train.label_source}",
        burn_in="${train.burn_in}",
        max_iter="${train.max_iter}",
        seed="${train.seed}",
        num_workers=0,
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="digits_val", filter_empty=False),
        mapper=L(InferenceMapper)(
            augmentations=[L(ResizeShortestEdge)(short_edge_length=128, max_size=192)],
            image_format="BGR",
            max_pixels=180_000_000,
        ),
        num_workers=0,
    ),
    evaluator=L(COCOEvaluator)(dataset_name="digits_val", tasks=("bbox",)),
)

optimizer = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=0.001,
    weight_decay=0.01,
)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[1500, 1800]),
    warmup_length=100 / 1800,
    warmup_factor=0.001,
)
ema = L(EMAHook)(momentum=0.99, ramp=True, interval=1, burn_in="${train.burn_in}", buffers=True)

train = dict(
    output_dir="output/demo",
    init_checkpoint="",
    max_iter=1800,
    burn_in=0,
    seed=0,
    label_source="teacher",
    amp=dict(enabled=False, precision="fp16"),
    clip_gradients=dict(enabled=False, clip_type="value", clip_value=1.0, norm_type=2.0),
    max_nonfinite=10,
    resume_changed=False,
    vis_period=0,
    watch=dict(patience=200, wandb=dict(project="", name="")),
    checkpointer=dict(period=300, max_to_keep=100),
    eval_period=600,
    eval_networks=["student", "teacher"],
    log_period=20,
    device="cuda",
)
