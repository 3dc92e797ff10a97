"""Section 4.2 without what differs between the settings, as base.yaml describes it."""

import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.evaluation import COCOEvaluator
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import MultiStepParamScheduler

from soft_teacher.data.augmentation.policies import build_policy
from soft_teacher.data.mapper import InferenceMapper
from soft_teacher.data.streams.loader import build_two_stream_train_loader
from soft_teacher.engine import EMAHook
from soft_teacher.modeling import (
    BoxJitter,
    FasterRCNNFamily,
    PseudoLabeler,
    SoftFastRCNNOutputLayers,
    SoftTeacher,
    SoftTeacherROIHeads,
)

detector = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
detector.backbone.bottom_up.freeze_at = 2
# (training, test), per image.
detector.proposal_generator.post_nms_topk = (2000, 1000)
heads = detector.roi_heads
heads._target_ = SoftTeacherROIHeads
heads.update(indicator="bg_teacher", cls_formula="paper")
heads.update(reg_normalizer="foreground", average="image")
heads.box_predictor._target_ = SoftFastRCNNOutputLayers
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
    label_source="${train.label_source}",
)

view = dict(short_edge=800, max_size=1333, scale_range=(0.5, 1.5), flip=True, max_angle=30.0)
dataloader = dict(
    train=L(build_two_stream_train_loader)(
        labeled_augmentations=L(build_policy)(name="labeled", variant="paper", **view),
        strong_augmentations=L(build_policy)(name="strong", variant="paper", **view),
        weak_augmentations=L(build_policy)(name="weak", variant="paper", **view),
        image_format="BGR",
        max_pixels=180_000_000,
        draw="global",
        burn_in="${train.burn_in}",
        max_iter="${train.max_iter}",
        seed="${train.seed}",
        num_workers=4,
        filter_empty=True,
        aspect_ratio_grouping=True,
        max_unreadable=0.01,
        chunks=1,
        hidden_labels=True,
        label_source="${train.label_source}",
    ),
    test=L(build_detection_test_loader)(
        dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
        mapper=L(InferenceMapper)(
            augmentations=[
                L(ResizeShortestEdge)(short_edge_length=800, max_size=1333, sample_style="choice")
            ],
            image_format="BGR",
            max_pixels=180_000_000,
        ),
        num_workers=4,
    ),
    evaluator=L(COCOEvaluator)(dataset_name="coco_2017_val", tasks=("bbox",)),
)

optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(base_lr="${..lr}", weight_decay_norm=0.0),
    lr=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    foreach=True,
)
ema = L(EMAHook)(momentum=0.999, ramp=True, interval=1, burn_in="${train.burn_in}", buffers=True)

train = dict(
    init_checkpoint="detectron2://ImageNetPretrained/MSRA/R-50.pkl",
    burn_in=0,
    seed=0,
    label_source="teacher",
    amp=dict(enabled=False, precision="fp16"),
    clip_gradients=dict(enabled=False, clip_type="value", clip_value=1.0, norm_type=2.0),
    max_nonfinite=10,
    resume_changed=False,
    vis_period=0,
    watch=dict(patience=200, wandb=dict(project="", name="")),
    checkpointer=dict(period=10_000, max_to_keep=5),
    eval_period=10_000,
    eval_networks=["student", "teacher"],
    log_period=20,
    device="cuda",
)


def warmup_multistep(max_iter: int, milestones: list):
    """The learning rate's factor: /10 at every milestone, after 500 steps of linear warm-up."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01], milestones=milestones, num_updates=max_iter
        ),
        warmup_length=500 / max_iter,
        warmup_factor=0.001,
        warmup_method="linear",
    )
