"""The keys of both config languages: which of them mean the same, and what a value must be.

Ranges that a class checks when it is built are not repeated here. There only the type is told, so
that the class can compare.
"""

import re
from collections.abc import Sequence

from ..data.images.image import FORMATS
from ..utils.checks import Each, Flag, Number, Text

__all__ = ["LAZY_ONLY", "SETTINGS", "VIEWS", "lazy_paths"]

TRAIN = "dataloader.train"
TEST = "dataloader.test"
STUDENT = "model.student"
RPN = f"{STUDENT}.proposal_generator"
HEADS = f"{STUDENT}.roi_heads"
PREDICTOR = f"{HEADS}.box_predictor"
FAMILY = "model.family"
JITTER = f"{FAMILY}.jitter"
LABELER = "model.pseudo_labeler"
RESIZE = f"{TEST}.mapper.augmentations[0]"
VIEWS = [f"{TRAIN}.{view}_augmentations" for view in ("labeled", "strong", "weak")]

number, whole, flag, text = Number(), Number(whole=True), Flag(), Text()
count = Number(1, whole=True)
share = Number(0, 1)
not_negative, positive = Number(0), Number(above=0)
counts = Each(count, empty=False)
thresholds = Each(share, empty=False, ascending=True)
names = Each(Text(empty=False), single=True)
channels = Each(number, length=3)


def check_anchors(key: str, value) -> None:
    """Raises ConfigError unless ``value`` lists sizes, for all levels or a list for each."""
    per_level = isinstance(value, Sequence) and any(isinstance(v, Sequence) for v in value)
    sizes = Each(positive, empty=False)
    (Each(sizes, empty=False) if per_level else sizes)(key, value)


# YAML key -> (LazyConfig's keys for it, if any; the check of the value). There are spaces between
# keys that a config has all of, and a | between those of one family of detectors and of another.
SETTINGS = {
    "MODEL.DEVICE": ("train.device", Text(empty=False)),
    "MODEL.WEIGHTS": ("train.init_checkpoint", text),
    "MODEL.PIXEL_MEAN": (f"{STUDENT}.pixel_mean", channels),
    "MODEL.PIXEL_STD": (f"{STUDENT}.pixel_std", Each(positive, length=3)),
    "MODEL.FPN.OUT_CHANNELS": (f"{STUDENT}.backbone.out_channels", count),
    "MODEL.ANCHOR_GENERATOR.SIZES": (
        f"{RPN}.anchor_generator.sizes|{STUDENT}.anchor_generator.sizes",
        check_anchors,
    ),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (
        f"{RPN}.anchor_generator.aspect_ratios|{STUDENT}.anchor_generator.aspect_ratios",
        check_anchors,
    ),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (
        f"{RPN}.anchor_generator.offset|{STUDENT}.anchor_generator.offset",
        share,
    ),
    "MODEL.RPN.IN_FEATURES": (f"{RPN}.in_features", Each(text, empty=False)),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": (f"{RPN}.batch_size_per_image", count),
    "MODEL.RPN.POSITIVE_FRACTION": (f"{RPN}.positive_fraction", share),
    "MODEL.RPN.NMS_THRESH": (f"{RPN}.nms_thresh", share),
    "MODEL.RPN.IOU_THRESHOLDS": (f"{RPN}.anchor_matcher.thresholds", thresholds),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": (f"{RPN}.pre_nms_topk[0]", count),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": (f"{RPN}.pre_nms_topk[1]", count),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": (f"{RPN}.post_nms_topk[0]", count),
    "MODEL.RPN.POST_NMS_TOPK_TEST": (f"{RPN}.post_nms_topk[1]", count),
    "MODEL.ROI_HEADS.NUM_CLASSES": (f"{HEADS}.num_classes", count),
    "MODEL.ROI_HEADS.IN_FEATURES": (f"{HEADS}.box_in_features", Each(text, empty=False)),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": (f"{HEADS}.batch_size_per_image", count),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": (f"{HEADS}.positive_fraction", share),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": (f"{HEADS}.proposal_matcher.thresholds", thresholds),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": (f"{PREDICTOR}.test_score_thresh", share),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": (f"{PREDICTOR}.test_nms_thresh", share),
    "MODEL.RETINANET.NUM_CLASSES": (f"{STUDENT}.num_classes", count),
    "MODEL.RETINANET.IN_FEATURES": (f"{STUDENT}.head_in_features", Each(text, empty=False)),
    "MODEL.RETINANET.IOU_THRESHOLDS": (f"{STUDENT}.anchor_matcher.thresholds", thresholds),
    "MODEL.RETINANET.SCORE_THRESH_TEST": (f"{STUDENT}.test_score_thresh", share),
    "MODEL.RETINANET.NMS_THRESH_TEST": (f"{STUDENT}.test_nms_thresh", share),
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": (f"{STUDENT}.test_topk_candidates", count),
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": (f"{STUDENT}.focal_loss_alpha", share),
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": (f"{STUDENT}.focal_loss_gamma", not_negative),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": (f"{STUDENT}.smooth_l1_beta", not_negative),
    # -1 keeps all.
    "TEST.DETECTIONS_PER_IMAGE": (
        f"{PREDICTOR}.test_topk_per_image|{STUDENT}.max_detections_per_image",
        Number(-1, whole=True),
    ),
    "TEST.EVAL_PERIOD": ("train.eval_period", Number(0, whole=True)),
    "INPUT.FORMAT": (
        f"{TRAIN}.image_format {TEST}.mapper.image_format",
        Text(FORMATS, empty=False),
    ),
    "INPUT.MAX_PIXELS": (f"{TRAIN}.max_pixels {TEST}.mapper.max_pixels", count),
    # 0 leaves the size as it is.
    "INPUT.MIN_SIZE_TEST": (f"{RESIZE}.short_edge_length", Number(0, whole=True)),
    "INPUT.MAX_SIZE_TEST": (f"{RESIZE}.max_size", count),
    "DATASETS.TRAIN_LABELED": (f"{TRAIN}.labeled_names", names),
    "DATASETS.TRAIN_UNLABELED": (f"{TRAIN}.unlabeled_names", names),
    "DATASETS.TEST": (f"{TEST}.dataset.names", names),
    "DATASETS.SPLIT.FAMILY": ("split.family", text),
    "DATASETS.SPLIT.PERCENT": ("split.percent", Number(above=0, high=100)),
    "DATASETS.SPLIT.FOLD": ("split.fold", Number(0, whole=True)),
    "DATALOADER.NUM_WORKERS": (
        f"{TRAIN}.num_workers {TEST}.num_workers",
        Number(0, 1024, whole=True),
    ),
    "DATALOADER.MAX_UNREADABLE": (f"{TRAIN}.max_unreadable", Number(high=1)),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": (f"{TRAIN}.filter_empty", flag),
    "DATALOADER.ASPECT_RATIO_GROUPING": (f"{TRAIN}.aspect_ratio_grouping", flag),
    "SOLVER.IMS_PER_BATCH": (f"{TRAIN}.batch_size", count),
    "SOLVER.GRADIENT_ACCUMULATION": (f"{TRAIN}.chunks", count),
    "SOLVER.MAX_ITER": ("train.max_iter", count),
    "SOLVER.OPTIMIZER": ("optimizer._target_", None),
    "SOLVER.BASE_LR": ("optimizer.lr", not_negative),
    "SOLVER.MOMENTUM": ("optimizer.momentum", share),
    "SOLVER.WEIGHT_DECAY": ("optimizer.weight_decay", not_negative),
    "SOLVER.WEIGHT_DECAY_NORM": ("optimizer.params.weight_decay_norm", Number(0, optional=True)),
    "SOLVER.WEIGHT_DECAY_BIAS": ("optimizer.params.weight_decay_bias", Number(0, optional=True)),
    "SOLVER.BIAS_LR_FACTOR": ("optimizer.params.bias_lr_factor", Number(0, optional=True)),
    "SOLVER.STEPS": ("lr_multiplier.scheduler.milestones", Each(count, ascending=True)),
    "SOLVER.GAMMA": ("", positive),
    "SOLVER.WARMUP_ITERS": ("", Number(0, whole=True)),
    "SOLVER.WARMUP_FACTOR": ("lr_multiplier.warmup_factor", not_negative),
    "SOLVER.REFERENCE_WORLD_SIZE": ("", Number(0, whole=True)),
    "SOLVER.CHECKPOINT_PERIOD": ("train.checkpointer.period", count),
    "SOLVER.CHECKPOINTS_TO_KEEP": (
        "train.checkpointer.max_to_keep",
        Number(0, whole=True, optional=True),
    ),
    "SOLVER.MAX_NONFINITE": ("train.max_nonfinite", whole),
    "SOLVER.AMP.ENABLED": ("train.amp.enabled", flag),
    "SOLVER.AMP.PRECISION": ("train.amp.precision", text),
    "SOLVER.CLIP_GRADIENTS": ("train.clip_gradients", None),
    "SOLVER.CLIP_GRADIENTS.ENABLED": ("train.clip_gradients.enabled", flag),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (
        "train.clip_gradients.clip_type",
        Text(choices=("value", "norm"), empty=False),
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ("train.clip_gradients.clip_value", positive),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": ("train.clip_gradients.norm_type", positive),
    "SOFT_TEACHER.DETECTOR": ("", text),
    "SOFT_TEACHER.ALPHA": ("model.alpha", number),
    "SOFT_TEACHER.BURN_IN": ("train.burn_in", whole),
    "SOFT_TEACHER.LABELED_SHARE": (f"{TRAIN}.labeled_share", number),
    "SOFT_TEACHER.LABELED_SHARE_DECAY": (f"{TRAIN}.decay_steps", whole),
    "SOFT_TEACHER.LABELED_DRAW": (f"{TRAIN}.draw", text),
    "SOFT_TEACHER.LABEL_SOURCE": ("train.label_source", text),
    "SOFT_TEACHER.SCORE_THRESH": (f"{LABELER}.score_thresh", number),
    "SOFT_TEACHER.INDICATOR": (f"{HEADS}.indicator|{FAMILY}.indicator", text),
    "SOFT_TEACHER.CLS_FORMULA": (f"{HEADS}.cls_formula", text),
    "SOFT_TEACHER.REG_NORMALIZER": (f"{HEADS}.reg_normalizer", text),
    "SOFT_TEACHER.AVERAGE": (f"{HEADS}.average", text),
    "SOFT_TEACHER.RPN_ON_UNLABELED": (f"{FAMILY}.rpn_on_unlabeled", flag),
    "SOFT_TEACHER.TEACHER_PROPOSALS": (f"{FAMILY}.teacher_proposals", text),
    "SOFT_TEACHER.JITTER.ENABLED": (f"{LABELER}.measure_stability", flag),
    "SOFT_TEACHER.JITTER.NUM": (f"{JITTER}.num", Number(high=1000, whole=True)),
    "SOFT_TEACHER.JITTER.SCALE": (f"{JITTER}.scale", number),
    "SOFT_TEACHER.JITTER.DISTRIBUTION": (f"{JITTER}.distribution", text),
    "SOFT_TEACHER.JITTER.SCORE_THRESH": (f"{LABELER}.candidate_thresh", number),
    "SOFT_TEACHER.JITTER.VARIANCE_THRESH": (f"{LABELER}.variance_thresh", number),
    "SOFT_TEACHER.JITTER.NORMALIZER": (f"{JITTER}.normalizer", text),
    "SOFT_TEACHER.JITTER.CLIP_REFINED": (f"{JITTER}.clip", flag),
    "SOFT_TEACHER.EMA.MOMENTUM": ("ema.momentum", number),
    "SOFT_TEACHER.EMA.RAMP": ("ema.ramp", flag),
    "SOFT_TEACHER.EMA.INTERVAL": ("ema.interval", whole),
    "SOFT_TEACHER.EMA.BUFFERS": ("ema.buffers", flag),
    "SOFT_TEACHER.AUGMENTATION.VARIANT": (" ".join(f"{v}.variant" for v in VIEWS), text),
    "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": (" ".join(f"{v}.short_edge" for v in VIEWS), whole),
    "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": (" ".join(f"{v}.max_size" for v in VIEWS), whole),
    "SOFT_TEACHER.AUGMENTATION.SCALE_RANGE": (
        " ".join(f"{v}.scale_range" for v in VIEWS),
        Each(number, length=2),
    ),
    "SOFT_TEACHER.AUGMENTATION.FLIP": (" ".join(f"{v}.flip" for v in VIEWS), flag),
    "SOFT_TEACHER.AUGMENTATION.MAX_ANGLE": (" ".join(f"{v}.max_angle" for v in VIEWS), number),
    "SOFT_TEACHER.RESUME_CHANGED": ("train.resume_changed", flag),
    "SOFT_TEACHER.EVAL_NETWORKS": ("train.eval_networks", Each(text)),
    "SOFT_TEACHER.WATCH.PATIENCE": ("train.watch.patience", whole),
    "SOFT_TEACHER.WATCH.HIDDEN_LABELS": (f"{TRAIN}.hidden_labels", flag),
    "SOFT_TEACHER.WATCH.WANDB.PROJECT": ("train.watch.wandb.project", text),
    "SOFT_TEACHER.WATCH.WANDB.NAME": ("train.watch.wandb.name", text),
    "SOFT_TEACHER.SMALL_RESNET.STEM_CHANNELS": (f"{STUDENT}.backbone.stem_channels", count),
    "SOFT_TEACHER.SMALL_RESNET.STAGE_CHANNELS": (f"{STUDENT}.backbone.stage_channels", counts),
    "SOFT_TEACHER.SMALL_RESNET.BLOCKS": (f"{STUDENT}.backbone.blocks", Each(whole)),
    "SEED": ("train.seed", whole),
    "VIS_PERIOD": ("train.vis_period", whole),
    "OUTPUT_DIR": ("train.output_dir", Text(empty=False)),
}
# Keys of a LazyConfig that mean something else in YAML, or nothing: the warm-up is a share here.
LAZY_ONLY = {
    "train.log_period": count,
    "lr_multiplier.warmup_length": share,
    "lr_multiplier.scheduler.values": Each(not_negative, empty=False),
}


def lazy_paths(key: str) -> list[str]:
    """What a LazyConfig calls a YAML key; nothing if it has no such key."""
    return re.split("[ |]", SETTINGS[key][0]) if SETTINGS[key][0] else []
