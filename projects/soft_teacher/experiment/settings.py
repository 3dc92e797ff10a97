"""The settings of a run in both config languages: names, checks, and what a resume may change.

Ranges that a class checks when it is built are not repeated here. Only the type is
checked, so that the class can compare.
"""

from collections.abc import Sequence

from ..data.images.image import FORMATS
from ..data.masks import MASK_FORMATS
from ..utils.checks import Each, Flag, Number, Text
from .setting import (
    HEADS,
    RPN,
    STUDENT,
    TEST,
    TRAIN,
    Setting,
    of_class,
    of_policies,
    of_predictors,
)

__all__ = ["FAMILY", "LAZY_ONLY", "SETTINGS", "free_keys", "free_paths"]

MASKS = f"{HEADS}.pseudo_masks"
FAMILY = "model.family"
JITTER = f"{FAMILY}.jitter"
LABELER = "model.pseudo_labeler"
DENSITY = f"{LABELER}.density"
RESIZE = f"{TEST}.mapper.augmentations[0]"
TEST_AUG = "dataloader.test_aug"

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


SETTINGS = {
    "MODEL.DEVICE": Setting("train.device", Text(empty=False), free=True),
    "MODEL.WEIGHTS": Setting(
        "train.init_checkpoint", text, "SoftTeacherCheckpointer.path", free=True
    ),
    "MODEL.MASK_ON": of_class(TRAIN, "TwoStreamLoader.masks", flag),
    "MODEL.PIXEL_MEAN": Setting(f"{STUDENT}.pixel_mean", channels),
    "MODEL.PIXEL_STD": Setting(f"{STUDENT}.pixel_std", Each(positive, length=3)),
    "MODEL.FPN.OUT_CHANNELS": Setting(f"{STUDENT}.backbone.out_channels", count),
    "MODEL.ANCHOR_GENERATOR.SIZES": Setting(
        f"{RPN}.anchor_generator.sizes|{STUDENT}.anchor_generator.sizes", check_anchors
    ),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": Setting(
        f"{RPN}.anchor_generator.aspect_ratios|{STUDENT}.anchor_generator.aspect_ratios",
        check_anchors,
    ),
    "MODEL.ANCHOR_GENERATOR.OFFSET": Setting(
        f"{RPN}.anchor_generator.offset|{STUDENT}.anchor_generator.offset", share
    ),
    "MODEL.RPN.IN_FEATURES": of_class(RPN, "RPN.in_features", Each(text, empty=False)),
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": Setting(f"{RPN}.batch_size_per_image", count),
    "MODEL.RPN.POSITIVE_FRACTION": Setting(f"{RPN}.positive_fraction", share),
    "MODEL.RPN.NMS_THRESH": Setting(f"{RPN}.nms_thresh", share),
    "MODEL.RPN.IOU_THRESHOLDS": Setting(f"{RPN}.anchor_matcher.thresholds", thresholds),
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": Setting(f"{RPN}.pre_nms_topk[0]", count),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": Setting(f"{RPN}.pre_nms_topk[1]", count),
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": Setting(f"{RPN}.post_nms_topk[0]", count),
    "MODEL.RPN.POST_NMS_TOPK_TEST": Setting(f"{RPN}.post_nms_topk[1]", count),
    "MODEL.ROI_HEADS.NUM_CLASSES": of_class(HEADS, "StandardROIHeads.num_classes", count),
    "MODEL.ROI_HEADS.IN_FEATURES": Setting(f"{HEADS}.box_in_features", Each(text, empty=False)),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": Setting(f"{HEADS}.batch_size_per_image", count),
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": Setting(f"{HEADS}.positive_fraction", share),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": Setting(
        f"{HEADS}.proposal_matcher.thresholds|{HEADS}.proposal_matchers[0].thresholds", thresholds
    ),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": Setting(
        of_predictors("test_score_thresh"), share, "FastRCNNOutputLayers.test_score_thresh"
    ),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": Setting(of_predictors("test_nms_thresh"), share),
    # An FCOS has no keys of its own: a LazyConfig describes it.
    "MODEL.RETINANET.NUM_CLASSES": Setting(
        f"{STUDENT}.num_classes", count, "RetinaNet.num_classes FCOS.num_classes"
    ),
    "MODEL.RETINANET.IN_FEATURES": of_class(
        STUDENT, "RetinaNet.head_in_features", Each(text, empty=False)
    ),
    "MODEL.RETINANET.IOU_THRESHOLDS": Setting(f"{STUDENT}.anchor_matcher.thresholds", thresholds),
    "MODEL.RETINANET.SCORE_THRESH_TEST": Setting(
        f"{STUDENT}.test_score_thresh", share, "RetinaNet.test_score_thresh FCOS.test_score_thresh"
    ),
    "MODEL.RETINANET.NMS_THRESH_TEST": Setting(f"{STUDENT}.test_nms_thresh", share),
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": Setting(f"{STUDENT}.test_topk_candidates", count),
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": Setting(f"{STUDENT}.focal_loss_alpha", share),
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": Setting(f"{STUDENT}.focal_loss_gamma", not_negative),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": Setting(f"{STUDENT}.smooth_l1_beta", not_negative),
    "TEST.DETECTIONS_PER_IMAGE": Setting(
        f"{of_predictors('test_topk_per_image')}|{STUDENT}.max_detections_per_image",
        Number(-1, whole=True),
    ),
    "TEST.AUG.ENABLED": Setting(f"{TEST_AUG}.enabled", flag, free=True),
    "TEST.AUG.MIN_SIZES": of_class(TEST_AUG, "MultiScale.min_sizes", counts, free=True),
    "TEST.AUG.MAX_SIZE": of_class(TEST_AUG, "MultiScale.max_size", count, free=True),
    "TEST.AUG.MAX_SIZES": of_class(TEST_AUG, "MultiScale.max_sizes", Each(count), free=True),
    "TEST.AUG.FLIP": of_class(TEST_AUG, "MultiScale.flip", flag, free=True),
    "TEST.AUG.BOX_SIZES": of_class(
        TEST_AUG, "MultiScale.box_sizes", Each(Each(not_negative, length=2)), free=True
    ),
    "TEST.EVAL_PERIOD": Setting("train.eval_period", Number(0, whole=True), free=True),
    "INPUT.FORMAT": Setting(
        f"{TRAIN}.image_format {TEST}.mapper.image_format",
        Text(FORMATS, empty=False),
        "image_format",
    ),
    "INPUT.MASK_FORMAT": of_class(
        TRAIN, "TwoStreamLoader.mask_format", Text(MASK_FORMATS, empty=False)
    ),
    "INPUT.MAX_PIXELS": Setting(
        f"{TRAIN}.max_pixels {TEST}.mapper.max_pixels", count, "max_pixels"
    ),
    "INPUT.MIN_SIZE_TEST": Setting(f"{RESIZE}.short_edge_length", Number(0, whole=True), free=True),
    "INPUT.MAX_SIZE_TEST": Setting(f"{RESIZE}.max_size", count, free=True),
    "DATASETS.TRAIN_LABELED": Setting(f"{TRAIN}.labeled_names", names, "labeled_names", free=True),
    "DATASETS.TRAIN_UNLABELED": Setting(
        f"{TRAIN}.unlabeled_names", names, "unlabeled_names", free=True
    ),
    "DATASETS.TEST": Setting(f"{TEST}.dataset.names", names, "test_names", free=True),
    "DATASETS.SPLIT.FAMILY": Setting("split.family", text, free=True),
    "DATASETS.SPLIT.PERCENT": Setting("split.percent", Number(above=0, high=100), free=True),
    "DATASETS.SPLIT.FOLD": Setting("split.fold", Number(0, whole=True), free=True),
    "DATALOADER.NUM_WORKERS": Setting(
        f"{TRAIN}.num_workers {TEST}.num_workers", Number(0, 1024, whole=True), free=True
    ),
    "DATALOADER.MAX_UNREADABLE": Setting(
        f"{TRAIN}.max_unreadable", Number(high=1), "UnreadableImages.max_share", free=True
    ),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": Setting(f"{TRAIN}.filter_empty", flag),
    "DATALOADER.ASPECT_RATIO_GROUPING": Setting(f"{TRAIN}.aspect_ratio_grouping", flag),
    "SOLVER.IMS_PER_BATCH": of_class(TRAIN, "BatchSchedule.batch_size", count),
    "SOLVER.GRADIENT_ACCUMULATION": Setting(
        f"{TRAIN}.chunks", count, "TwoStreamLoader.chunks", free=True
    ),
    "SOLVER.MAX_ITER": Setting("train.max_iter", count, "BatchSchedule.max_iter"),
    "SOLVER.OPTIMIZER": Setting("optimizer._target_", None),
    "SOLVER.BASE_LR": Setting("optimizer.lr", not_negative, "optimizer.lr"),
    "SOLVER.MOMENTUM": Setting("optimizer.momentum", share),
    "SOLVER.WEIGHT_DECAY": Setting("optimizer.weight_decay", not_negative),
    "SOLVER.WEIGHT_DECAY_NORM": Setting(
        "optimizer.params.weight_decay_norm", Number(0, optional=True)
    ),
    "SOLVER.WEIGHT_DECAY_BIAS": Setting(
        "optimizer.params.weight_decay_bias", Number(0, optional=True)
    ),
    "SOLVER.BIAS_LR_FACTOR": Setting("optimizer.params.bias_lr_factor", Number(0, optional=True)),
    "SOLVER.STEPS": Setting("lr_multiplier.scheduler.milestones", Each(count, ascending=True)),
    "SOLVER.GAMMA": Setting("", positive),
    "SOLVER.WARMUP_ITERS": Setting("", Number(0, whole=True)),
    "SOLVER.WARMUP_FACTOR": Setting("lr_multiplier.warmup_factor", not_negative),
    "SOLVER.REFERENCE_WORLD_SIZE": Setting("", Number(0, whole=True)),
    "SOLVER.CHECKPOINT_PERIOD": Setting("train.checkpointer.period", count, free=True),
    "SOLVER.CHECKPOINTS_TO_KEEP": Setting(
        "train.checkpointer.max_to_keep", Number(0, whole=True, optional=True), free=True
    ),
    "SOLVER.MAX_NONFINITE": Setting(
        "train.max_nonfinite", whole, "NonFiniteGuard.max_skips", free=True
    ),
    "SOLVER.AMP.ENABLED": Setting("train.amp.enabled", flag),
    "SOLVER.AMP.PRECISION": Setting("train.amp.precision", text),
    "SOLVER.CLIP_GRADIENTS": Setting("train.clip_gradients", None, "clip_gradients"),
    "SOLVER.CLIP_GRADIENTS.ENABLED": Setting("train.clip_gradients.enabled", flag),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": Setting(
        "train.clip_gradients.clip_type", Text(choices=("value", "norm"), empty=False)
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": Setting("train.clip_gradients.clip_value", positive),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Setting("train.clip_gradients.norm_type", positive),
    "SOFT_TEACHER.DETECTOR": Setting("", text),
    "SOFT_TEACHER.ALPHA": Setting("model.alpha", number, "SoftTeacher.alpha"),
    "SOFT_TEACHER.BURN_IN": Setting(
        "train.burn_in", whole, "BatchSchedule.burn_in EMAHook.burn_in"
    ),
    "SOFT_TEACHER.LABELED_SHARE": Setting(f"{TRAIN}.labeled_share", number, "BatchSchedule.share"),
    "SOFT_TEACHER.LABELED_SHARE_DECAY": of_class(TRAIN, "BatchSchedule.decay_steps", whole),
    "SOFT_TEACHER.LABELED_DRAW": of_class(TRAIN, "BatchSchedule.draw", text),
    "SOFT_TEACHER.LABEL_SOURCE": Setting("train.label_source", text, "SoftTeacher.label_source"),
    "SOFT_TEACHER.STATISTICS": Setting("model.statistics", text, "SoftTeacher.statistics"),
    "SOFT_TEACHER.SCORE_THRESH": of_class(LABELER, "PseudoLabeler.score_thresh", number),
    "SOFT_TEACHER.DENSITY.ENABLED": of_class(LABELER, "PseudoLabeler.by_density", flag),
    "SOFT_TEACHER.DENSITY.FOREGROUND": of_class(DENSITY, "DensityThresholds.foreground", number),
    "SOFT_TEACHER.DENSITY.IGNORE": of_class(DENSITY, "DensityThresholds.ignore", number),
    "SOFT_TEACHER.DENSITY.REGRESSION": of_class(DENSITY, "DensityThresholds.regression", number),
    "SOFT_TEACHER.DENSITY.WINDOW": of_class(DENSITY, "DensityThresholds.window", whole),
    "SOFT_TEACHER.DENSITY.FLOOR": of_class(DENSITY, "DensityThresholds.floor", number),
    "SOFT_TEACHER.INDICATOR": Setting(
        f"{HEADS}.indicator|{FAMILY}.indicator",
        text,
        "SoftHeads.indicator DenseFamily.indicator",
    ),
    "SOFT_TEACHER.CLS_FORMULA": Setting(
        f"{HEADS}.cls_formula|{FAMILY}.cls_formula",
        text,
        "SoftHeads.cls_formula DenseFamily.cls_formula",
    ),
    "SOFT_TEACHER.REG_NORMALIZER": of_class(HEADS, "SoftHeads.reg_normalizer", text),
    "SOFT_TEACHER.AVERAGE": of_class(HEADS, "SoftHeads.average", text),
    "SOFT_TEACHER.RPN_ON_UNLABELED": Setting(f"{FAMILY}.rpn_on_unlabeled", flag),
    "SOFT_TEACHER.TEACHER_PROPOSALS": of_class(FAMILY, "FasterRCNNFamily.teacher_proposals", text),
    "SOFT_TEACHER.JITTER.ENABLED": of_class(LABELER, "PseudoLabeler.measure_stability", flag),
    "SOFT_TEACHER.JITTER.NUM": of_class(JITTER, "BoxJitter.num", Number(high=1000, whole=True)),
    "SOFT_TEACHER.JITTER.SCALE": of_class(JITTER, "BoxJitter.scale", number),
    "SOFT_TEACHER.JITTER.DISTRIBUTION": of_class(JITTER, "BoxJitter.distribution", text),
    "SOFT_TEACHER.JITTER.SCORE_THRESH": of_class(LABELER, "PseudoLabeler.candidate_thresh", number),
    "SOFT_TEACHER.JITTER.VARIANCE_THRESH": of_class(
        LABELER, "PseudoLabeler.variance_thresh", number
    ),
    "SOFT_TEACHER.JITTER.STABLE_SHARE": of_class(LABELER, "PseudoLabeler.stable_share", number),
    "SOFT_TEACHER.JITTER.NORMALIZER": of_class(JITTER, "BoxJitter.normalizer", text),
    "SOFT_TEACHER.JITTER.CLIP_REFINED": Setting(f"{JITTER}.clip", flag),
    "SOFT_TEACHER.MASK.ENABLED": of_class(MASKS, "PseudoMasks.enabled", flag),
    "SOFT_TEACHER.MASK.TARGETS": of_class(MASKS, "PseudoMasks.targets", text),
    "SOFT_TEACHER.MASK.SOFT": of_class(MASKS, "PseudoMasks.soft", flag),
    "SOFT_TEACHER.MASK.IGNORE": of_class(MASKS, "PseudoMasks.ignore", number),
    "SOFT_TEACHER.MASK.QUALITY": of_class(MASKS, "PseudoMasks.quality", flag),
    "SOFT_TEACHER.CASCADE.SCORES": of_class(HEADS, "Stages.scores", text),
    "SOFT_TEACHER.CASCADE.JITTER": of_class(HEADS, "Stages.jitter", text),
    "SOFT_TEACHER.EMA.MOMENTUM": Setting("ema.momentum", number, "EMAHook.momentum"),
    "SOFT_TEACHER.EMA.RAMP": Setting("ema.ramp", flag),
    "SOFT_TEACHER.EMA.THROUGH_BURN_IN": Setting("ema.through_burn_in", flag),
    "SOFT_TEACHER.EMA.INTERVAL": Setting("ema.interval", whole, "EMAHook.interval"),
    "SOFT_TEACHER.EMA.BUFFERS": Setting("ema.buffers", flag),
    "SOFT_TEACHER.AUGMENTATION.VARIANT": of_policies("variant", text),
    "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": of_policies("short_edge", whole),
    "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": of_policies("max_size", whole),
    "SOFT_TEACHER.AUGMENTATION.SCALE_RANGE": of_policies("scale_range", Each(number, length=2)),
    "SOFT_TEACHER.AUGMENTATION.FLIP": of_policies("flip", flag),
    "SOFT_TEACHER.AUGMENTATION.MAX_ANGLE": of_policies("max_angle", number),
    "SOFT_TEACHER.AUGMENTATION.INSTANCE_PASTE": of_class(
        f"{TRAIN}.instance_paste", "InstancePaste.prob", share
    ),
    "SOFT_TEACHER.RESUME_CHANGED": Setting(
        "train.resume_changed", flag, "RunIdentity.allow_changes", free=True
    ),
    "SOFT_TEACHER.SOFT_NMS": Setting(
        of_predictors("soft_nms"), text, "SoftFastRCNNOutputLayers.soft_nms"
    ),
    "SOFT_TEACHER.SOFT_NMS_SIGMA": Setting(of_predictors("soft_nms_sigma"), positive),
    "SOFT_TEACHER.EVAL_NETWORKS": Setting(
        "train.eval_networks", Each(text), "evaluate_networks.networks", free=True
    ),
    "SOFT_TEACHER.WATCH.PATIENCE": Setting(
        "train.watch.patience", whole, "HealthCheck.patience", free=True
    ),
    "SOFT_TEACHER.WATCH.HIDDEN_LABELS": Setting(f"{TRAIN}.hidden_labels", flag, free=True),
    "SOFT_TEACHER.WATCH.WANDB.PROJECT": Setting(
        "train.watch.wandb.project", text, "WandbWriter.project", free=True
    ),
    "SOFT_TEACHER.WATCH.WANDB.NAME": Setting("train.watch.wandb.name", text, free=True),
    "SOFT_TEACHER.SMALL_RESNET.STEM_CHANNELS": Setting(f"{STUDENT}.backbone.stem_channels", count),
    "SOFT_TEACHER.SMALL_RESNET.STAGE_CHANNELS": Setting(
        f"{STUDENT}.backbone.stage_channels", counts, "small_resnet_fpn.stage_channels"
    ),
    "SOFT_TEACHER.SMALL_RESNET.BLOCKS": Setting(
        f"{STUDENT}.backbone.blocks", Each(whole), "small_resnet_fpn.blocks"
    ),
    "SEED": Setting("train.seed", whole),
    "VIS_PERIOD": Setting("train.vis_period", whole, "PictureHook.period", free=True),
    "OUTPUT_DIR": Setting("train.output_dir", Text(empty=False), "output_dir", free=True),
}
# Keys of a LazyConfig that mean something else in YAML, or nothing: the warm-up is a share here.
LAZY_ONLY = {
    "train.log_period": count,
    "lr_multiplier.warmup_length": share,
    "lr_multiplier.scheduler.values": Each(not_negative, empty=False),
}
# Nodes that no setting covers and that a resumed run may change, in either language.
FREE_KEYS = ("CUDNN_BENCHMARK", "DATASETS", "GLOBAL", "TEST", "VERSION")
FREE_PATHS = ("dataloader.evaluator", "dataloader.test", "split", "train.log_period")


def free_keys() -> tuple[str, ...]:
    """YAML keys, or nodes of them, that a resumed run may change."""
    return (*FREE_KEYS, *(key for key, setting in SETTINGS.items() if setting.free))


def free_paths() -> tuple[str, ...]:
    """Paths of a LazyConfig, likewise."""
    return (*FREE_PATHS, *(path for s in SETTINGS.values() if s.free for path in s.paths))
