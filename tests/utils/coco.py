"""The COCO experiments for the tests of their configs: how they are read, what they should say."""

import functools
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier

from soft_teacher.experiment import lazy_config, yaml_config

ROOT = Path(__file__).resolve().parents[2]
COCO = ROOT / "configs" / "coco"
VARIANTS = ("paper", "reference")
NAMES = (
    "soft_teacher_R_50_FPN_partial_180k",
    "soft_teacher_R_50_FPN_full_720k",
    "soft_teacher_R_101_FPN_full_720k",
    "faster_rcnn_R_50_FPN_partial_180k",
    "faster_rcnn_R_50_FPN_full_720k",
    "faster_rcnn_R_101_FPN_full_720k",
)
FULL_METHOD = ("paper", "soft_teacher_R_50_FPN_partial_180k")
# Section 4.4: what each differs in from the full method.
WITHOUT_JITTER = {"SOFT_TEACHER.JITTER.ENABLED": False}
E2E_EMA = {**WITHOUT_JITTER, "SOFT_TEACHER.INDICATOR": "none"}
E2E = {
    **E2E_EMA,
    "SOFT_TEACHER.EMA.MOMENTUM": 0.0,
    "SOFT_TEACHER.EVAL_NETWORKS": ["student"],
}
MULTI_STAGE = {
    **E2E,
    "SOFT_TEACHER.LABEL_SOURCE": "dataset",
    "DATASETS.TRAIN_UNLABELED": ["output/coco/labels/{FAMILY}_{PERCENT}p_fold{FOLD}.json"],
}
ABLATIONS = {
    "multi_stage": MULTI_STAGE,
    "e2e": E2E,
    "e2e_ema": E2E_EMA,
    "soft_teacher_without_jitter": WITHOUT_JITTER,
}
EXPERIMENTS = [(variant, name) for variant in VARIANTS for name in NAMES]
EXPERIMENTS += [("ablation", name) for name in ABLATIONS]
every_experiment = pytest.mark.parametrize("variant, name", EXPERIMENTS)


@functools.cache
def load(variant, name, *opts):
    """From YAML; not to be changed, as it is shared."""
    return yaml_config.load_config(str(COCO / variant / f"{name}.yaml"), opts)


@functools.cache
def load_lazy(variant, name, *opts):
    """From LazyConfig; not to be changed."""
    return lazy_config.load_config(str(COCO / variant / f"{name}.py"), opts)


def leaves(cfg, prefix=""):
    """{dotted key: value}"""
    found = {}
    for key, value in cfg.items():
        is_node = isinstance(value, (CfgNode, dict))
        found.update(leaves(value, f"{prefix}{key}.") if is_node else {prefix + key: value})
    return found


def difference(one: dict, other: dict) -> dict:
    """{key: (value, value)} of the keys that differ."""
    keys = sorted({*one, *other})
    return {k: (one.get(k), other.get(k)) for k in keys if one.get(k) != other.get(k)}


def rates(schedule: LRMultiplier, steps) -> dict:
    """{step: learning rate}"""
    found = {}
    for step in steps:
        schedule.last_epoch = step
        (found[step],) = schedule.get_lr()
    return found


# What section 4.2 and the released code say.
SECTION_4_2 = {
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.GAMMA": 0.1,
    "SOFT_TEACHER.SCORE_THRESH": 0.9,
    "SOFT_TEACHER.INDICATOR": "bg_teacher",
    "SOFT_TEACHER.CLS_FORMULA": "paper",
    "SOFT_TEACHER.REG_NORMALIZER": "foreground",
    "SOFT_TEACHER.AVERAGE": "image",
    "SOFT_TEACHER.LABELED_DRAW": "global",
    "SOFT_TEACHER.TEACHER_PROPOSALS": "test",
    "SOFT_TEACHER.JITTER.ENABLED": True,
    "SOFT_TEACHER.JITTER.NUM": 10,
    "SOFT_TEACHER.JITTER.SCALE": 0.06,
    "SOFT_TEACHER.JITTER.DISTRIBUTION": "uniform",
    "SOFT_TEACHER.JITTER.SCORE_THRESH": 0.5,
    "SOFT_TEACHER.JITTER.VARIANCE_THRESH": 0.02,
    "SOFT_TEACHER.JITTER.NORMALIZER": "candidate",
    "SOFT_TEACHER.JITTER.CLIP_REFINED": False,
    "SOFT_TEACHER.AUGMENTATION.VARIANT": "paper",
    "SOFT_TEACHER.AUGMENTATION.SHORT_EDGE": 800,
    "SOFT_TEACHER.AUGMENTATION.SCALE_RANGE": [0.5, 1.5],
    "SOFT_TEACHER.AUGMENTATION.MAX_SIZE": 1333,
    "SOFT_TEACHER.AUGMENTATION.MAX_ANGLE": 30.0,
}
WHERE_THE_PAPER_IS_SILENT = {
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "INPUT.FORMAT": "BGR",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "DATASETS.TEST": ["coco_2017_val"],
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "SOLVER.WARMUP_ITERS": 500,
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.AMP.ENABLED": False,
    "SOFT_TEACHER.BURN_IN": 0,
    "SOFT_TEACHER.RPN_ON_UNLABELED": True,
    "SOFT_TEACHER.EMA.MOMENTUM": 0.999,
    "SOFT_TEACHER.EMA.RAMP": True,
    "SOFT_TEACHER.EMA.INTERVAL": 1,
    "SOFT_TEACHER.EMA.BUFFERS": True,
    "SOFT_TEACHER.AUGMENTATION.FLIP": True,
    "SOFT_TEACHER.AUGMENTATION.INSTANCE_PASTE": 0.0,
    "SOFT_TEACHER.EVAL_NETWORKS": ["student", "teacher"],
}
PARTIAL = {
    "SOLVER.IMS_PER_BATCH": 8 * 5,
    "SOLVER.MAX_ITER": 180_000,
    "SOLVER.STEPS": [110_000, 160_000],
    "SOFT_TEACHER.ALPHA": 4.0,
    "SOFT_TEACHER.LABELED_SHARE": 0.2,
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 10_000,
}
FULL = {
    "DATASETS.TRAIN_LABELED": ["coco_2017_full_labeled"],
    "DATASETS.TRAIN_UNLABELED": ["coco_2017_full_unlabeled"],
    "SOLVER.IMS_PER_BATCH": 8 * 8,
    "SOLVER.MAX_ITER": 720_000,
    "SOLVER.STEPS": [480_000, 680_000],
    "SOFT_TEACHER.ALPHA": 2.0,
    "SOFT_TEACHER.LABELED_SHARE": 0.5,
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 20_000,
}
SUPERVISED = {"SOFT_TEACHER.LABELED_SHARE": 1.0, "SOFT_TEACHER.LABELED_SHARE_DECAY": 0}
SUPERVISED_PARTIAL = {**SUPERVISED, "SOLVER.IMS_PER_BATCH": 8 * 1, "SOLVER.BASE_LR": 0.01}
SUPERVISED_FULL = {**SUPERVISED, "SOLVER.IMS_PER_BATCH": 8 * 2, "SOLVER.BASE_LR": 0.02}
# The released code's column, without the steps of the learning rate.
RELEASED = {
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "SOLVER.AMP.ENABLED": True,
    "SOFT_TEACHER.CLS_FORMULA": "reference",
    "SOFT_TEACHER.REG_NORMALIZER": "samples",
    "SOFT_TEACHER.AVERAGE": "gpu",
    "SOFT_TEACHER.LABELED_DRAW": "per_rank",
    "SOFT_TEACHER.LABELED_SHARE_DECAY": 0,
    "SOFT_TEACHER.TEACHER_PROPOSALS": "train",
    "SOFT_TEACHER.JITTER.DISTRIBUTION": "normal",
    "SOFT_TEACHER.JITTER.NORMALIZER": "refined",
    "SOFT_TEACHER.JITTER.CLIP_REFINED": True,
    "SOFT_TEACHER.EMA.BUFFERS": False,
    "SOFT_TEACHER.AUGMENTATION.VARIANT": "reference",
}
RELEASED_STEPS = {"partial": [120_000, 160_000], "full": [480_000, 640_000]}


def expected(variant, name) -> dict:
    if variant == "ablation":
        output = {"OUTPUT_DIR": f"output/coco/ablation/{name}"}
        return {**expected(*FULL_METHOD), **ABLATIONS[name], **output}
    setting = "partial" if "partial" in name else "full"
    depth = 101 if "R_101" in name else 50
    found = {**SECTION_4_2, **WHERE_THE_PAPER_IS_SILENT}
    found.update(PARTIAL if setting == "partial" else FULL)
    if name.startswith("faster_rcnn"):
        found.update(SUPERVISED_PARTIAL if setting == "partial" else SUPERVISED_FULL)
    if variant == "reference":
        found.update({**RELEASED, "SOLVER.STEPS": RELEASED_STEPS[setting]})
    weights = f"detectron2://ImageNetPretrained/MSRA/R-{depth}.pkl"
    found.update({"MODEL.RESNETS.DEPTH": depth, "MODEL.WEIGHTS": weights})
    found["OUTPUT_DIR"] = f"output/coco/{variant}/{name}"
    return found
