"""The COCO configs: section 4.2 and the released code, YAML and LazyConfig alike."""

import functools
import shlex
import types
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import TrainerBase, hooks
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.solver import LRMultiplier, build_lr_scheduler
from omegaconf import OmegaConf

from soft_teacher.data.datasets import train_names
from soft_teacher.engine import EMAHook, SoftTeacherTrainer, lazy_entry, yaml_entry

ROOT = Path(__file__).resolve().parents[1]
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
    return yaml_entry.load_config(str(COCO / variant / f"{name}.yaml"), opts)


@functools.cache
def load_lazy(variant, name, *opts):
    """From LazyConfig; not to be changed."""
    return lazy_entry.load_config(str(COCO / variant / f"{name}.py"), opts)


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


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [*VARIANTS, "ablation"])
@pytest.mark.parametrize("suffix", [".yaml", ".py"])
def test_every_experiment_is_there_and_nothing_else(folder, suffix):
    wanted = {name for variant, name in EXPERIMENTS if variant == folder}
    assert {p.stem for p in (COCO / folder).glob(f"*{suffix}")} == wanted


def repeated(path) -> dict:
    """What a YAML file says again that its bases say already."""
    own = yaml.safe_load(path.read_text())
    bases = own.pop("_BASE_", [])
    inherited = {}
    for base in [bases] if isinstance(bases, str) else bases:
        inherited.update(leaves(CfgNode.load_yaml_with_base(str(path.parent / base))))
    return {k: v for k, v in leaves(own).items() if inherited.get(k) == v}


@pytest.mark.parametrize("path", sorted(COCO.rglob("*.yaml")), ids=lambda p: p.stem)
def test_no_file_repeats_a_value_of_its_bases(path):
    assert repeated(path) == {}


def test_a_repeated_value_is_found(tmp_path):
    for name, text in {"a": "X: {Y: 1, Z: 1}", "b": "X: {Y: 2}"}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    leaf = tmp_path / "leaf.yaml"
    leaf.write_text("_BASE_: [a.yaml, b.yaml]\nX: {Y: 1, Z: 1}")
    assert repeated(leaf) == {"X.Z": 1}


# --- the numbers --------------------------------------------------------------------------------

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


@every_experiment
def test_every_number_is_the_paper_s_or_the_released_code_s(variant, name):
    found = leaves(load(variant, name))
    wanted = expected(variant, name)
    assert difference({k: v for k, v in listed(found).items() if k in wanted}, wanted) == {}


def listed(values: dict) -> dict:
    """With lists for tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_from_the_full_method_in_what_its_table_says(name):
    one, other = (listed(leaves(load(*e))) for e in (FULL_METHOD, ("ablation", name)))
    found = {k: values[1] for k, values in difference(one, other).items()}
    assert found == {**ABLATIONS[name], "OUTPUT_DIR": f"output/coco/ablation/{name}"}


@pytest.mark.parametrize("name", NAMES)
def test_the_two_variants_differ_where_the_table_says(name):
    found = set(difference(*(leaves(load(variant, name)) for variant in VARIANTS)))
    wanted = {*RELEASED, "SOLVER.STEPS", "OUTPUT_DIR"}
    if name.startswith("faster_rcnn"):
        wanted.remove("SOFT_TEACHER.LABELED_SHARE_DECAY")  # 0 in both
    assert found == wanted


@every_experiment
def test_the_detector_is_the_model_zoo_s_but_for_what_is_listed(variant, name):
    depth = 101 if "R_101" in name else 50
    zoo = model_zoo.get_config(f"COCO-Detection/faster_rcnn_R_{depth}_FPN_3x.yaml")
    ours = load(variant, name).MODEL
    zoo.MODEL.DEVICE = ours.DEVICE
    zoo.MODEL.ROI_MASK_HEAD = ours.ROI_MASK_HEAD  # of no use without masks
    found = difference(leaves(ours), leaves(zoo.MODEL))
    wanted = {
        "META_ARCHITECTURE": ("SoftTeacher", "GeneralizedRCNN"),
        "ROI_HEADS.NAME": ("SoftTeacherROIHeads", "StandardROIHeads"),
    }
    if variant != "reference":
        wanted["RPN.POST_NMS_TOPK_TRAIN"] = (2000, 1000)
    assert found == wanted


# --- the split of a partial config --------------------------------------------------------------

SPLITS = [
    ([], [], "stac_10p_fold1"),
    (["DATASETS.SPLIT.PERCENT", "1"], ["split.percent=1"], "stac_1p_fold1"),
    (["DATASETS.SPLIT.PERCENT", "0.5"], ["split.percent=0.5"], "stac_0.5p_fold1"),
    (
        ["DATASETS.SPLIT.FAMILY", "unbiased_teacher", "DATASETS.SPLIT.FOLD", "0"],
        ["split.family=unbiased_teacher", "split.fold=0"],
        "unbiased_teacher_10p_fold0",
    ),
]


@pytest.mark.parametrize("opts, lazy_opts, split", SPLITS)
@pytest.mark.parametrize("variant, name", [e for e in EXPERIMENTS if "partial" in e[1]])
def test_percent_fold_and_family_choose_the_datasets(variant, name, opts, lazy_opts, split):
    wanted = ([f"coco_2017_{split}_labeled"], [f"coco_2017_{split}_unlabeled"])
    assert train_names(load(variant, name, *opts)) == wanted
    loader = load_lazy(variant, name, *lazy_opts).dataloader.train
    assert (list(loader.labeled_names), list(loader.unlabeled_names)) == wanted


@pytest.mark.parametrize("opts, lazy_opts, split", SPLITS)
def test_percent_fold_and_family_choose_the_labels_of_the_first_stage(opts, lazy_opts, split):
    wanted = ([f"coco_2017_{split}_labeled"], [f"output/coco/labels/{split}.json"])
    assert train_names(load("ablation", "multi_stage", *opts)) == wanted
    assert lazy_entry.train_names(load_lazy("ablation", "multi_stage", *lazy_opts)) == wanted


@pytest.mark.parametrize("variant, name", [e for e in EXPERIMENTS if "full" in e[1]])
def test_full_configs_name_their_datasets(variant, name):
    loader = load_lazy(variant, name).dataloader.train
    names = (list(loader.labeled_names), list(loader.unlabeled_names))
    assert names == train_names(load(variant, name))


# --- YAML and LazyConfig ------------------------------------------------------------------------

# What can be compared without building anything.
SAME_VALUES = {
    "MODEL.RESNETS.DEPTH": "model.student.backbone.bottom_up.stages.depth",
    "MODEL.WEIGHTS": "train.init_checkpoint",
    "DATALOADER.MAX_UNREADABLE": "dataloader.train.max_unreadable",
    "SOLVER.IMS_PER_BATCH": "dataloader.train.batch_size",
    "SOLVER.BASE_LR": "optimizer.lr",
    "SOLVER.MAX_ITER": "train.max_iter",
    "SOLVER.STEPS": "lr_multiplier.scheduler.milestones",
    "SOLVER.CHECKPOINT_PERIOD": "train.checkpointer.period",
    "SOLVER.CHECKPOINTS_TO_KEEP": "train.checkpointer.max_to_keep",
    "SOLVER.GRADIENT_ACCUMULATION": "dataloader.train.chunks",
    "SOLVER.MAX_NONFINITE": "train.max_nonfinite",
    "SOLVER.CLIP_GRADIENTS.ENABLED": "train.clip_gradients.enabled",
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "train.clip_gradients.clip_type",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": "train.clip_gradients.clip_value",
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": "train.clip_gradients.norm_type",
    "SOLVER.AMP.ENABLED": "train.amp.enabled",
    "SOLVER.AMP.PRECISION": "train.amp.precision",
    "TEST.EVAL_PERIOD": "train.eval_period",
    "SOFT_TEACHER.ALPHA": "model.alpha",
    "SOFT_TEACHER.BURN_IN": "train.burn_in",
    "SOFT_TEACHER.LABELED_SHARE": "dataloader.train.labeled_share",
    "SOFT_TEACHER.LABELED_SHARE_DECAY": "dataloader.train.decay_steps",
    "SOFT_TEACHER.LABELED_DRAW": "dataloader.train.draw",
    "SOFT_TEACHER.TEACHER_PROPOSALS": "model.teacher_proposals",
    "SOFT_TEACHER.CLS_FORMULA": "model.student.roi_heads.cls_formula",
    "SOFT_TEACHER.LABEL_SOURCE": "train.label_source",
    "SOFT_TEACHER.INDICATOR": "model.student.roi_heads.indicator",
    "SOFT_TEACHER.JITTER.DISTRIBUTION": "model.pseudo_labeler.jitter.distribution",
    "SOFT_TEACHER.EMA.MOMENTUM": "ema.momentum",
    "SOFT_TEACHER.EMA.BUFFERS": "ema.buffers",
    "SOFT_TEACHER.AUGMENTATION.VARIANT": "dataloader.train.strong_augmentations.variant",
    "SOFT_TEACHER.RESUME_CHANGED": "train.resume_changed",
    "SOFT_TEACHER.EVAL_NETWORKS": "train.eval_networks",
    "SEED": "train.seed",
    "OUTPUT_DIR": "train.output_dir",
}
# A weight of the losses that is not given is 1.
IGNORED = ("loss_weight.loss_cls", "trainer", "data_loader")


def fields(thing, path="", above=()) -> dict:
    """{path: value} of everything an object is made of; of tensors the shape.

    Lists and tuples are the same to it, and so are dicts and LazyConfig's.
    """
    if isinstance(thing, (type(None), bool, int, float, str)):
        return {path: thing}
    if isinstance(thing, torch.Tensor):
        return {path: (tuple(thing.shape), thing.dtype, thing.requires_grad)}
    if isinstance(thing, np.ndarray):
        return {path: (thing.shape, thing.dtype, thing.tobytes())}
    if isinstance(thing, (type, types.FunctionType, types.MethodType)):
        return {path: f"{thing.__module__}.{thing.__qualname__}"}
    if isinstance(thing, (torch.dtype, torch.device)):
        return {path: thing}
    if isinstance(thing, (set, frozenset)):
        return {path: set(map(str, thing))}
    if any(thing is one for one in above):
        return {}
    if isinstance(thing, Sequence):
        found, items = {}, enumerate(thing)
    elif isinstance(thing, Mapping):
        found, items = {}, thing.items()
    else:
        found, items = {path: type(thing).__qualname__}, getattr(thing, "__dict__", {}).items()
    for key, value in items:
        inner = f"{path}.{key}"
        if not inner.endswith(IGNORED):
            found.update(fields(value, inner, (*above, thing)))
    return found


def test_fields_sees_into_an_object():
    def made(ratio):
        return Namespace(net=torch.nn.Conv2d(3, 4, 1), ratios={"a": [ratio]}, name="x")

    assert difference(fields(made(0.5)), fields(made(0.5))) == {}
    assert difference(fields(made(0.5)), fields(made(0.6))) == {".ratios.a.0": (0.5, 0.6)}
    assert fields(made(0.5))[".net._parameters.weight"] == ((4, 3, 1, 1), torch.float32, True)


@pytest.fixture(scope="module")
def datasets():
    """Three registered datasets, labeled, unlabeled and test: a wide, a tall and an empty image."""
    box = {"bbox": [0, 0, 9, 9], "bbox_mode": 0, "category_id": 0}
    wide = {"file_name": __file__, "image_id": 0, "height": 480, "width": 640, "annotations": [box]}
    images = [wide, {**wide, "height": 700}, {**wide, "annotations": []}]
    names = [f"coco_config_{part}" for part in ("labeled", "unlabeled", "test")]
    for name in names:
        DatasetCatalog.register(name, lambda: images)
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def started(entry, path, opts):
    """The trainer that an entry hands over to the training loop, networks on the meta device."""
    kept = []

    def train(self, start, max_iter):
        self.max_iter = max_iter
        kept.append(self)

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(TrainerBase, "train", train)
        patch.setattr(entry, "default_setup", lambda *args: None)
        patch.setattr(entry, "check_amp", lambda *args: None)
        entry.main(Namespace(config_file=str(path), opts=opts, eval_only=False, resume=False))
    return kept[0]


# Together they have every setting, backbone, method and variant; the others take their time.
SOON = [*(EXPERIMENTS[n] for n in (0, 4, 8, 9)), ("ablation", "multi_stage")]
LATER = [pytest.param(e, marks=pytest.mark.long) for e in EXPERIMENTS if e not in SOON]


@pytest.fixture(scope="module", params=SOON + LATER, ids="-".join)
def twins(request, datasets, tmp_path_factory):
    """(variant, name, trainer from YAML, trainer from LazyConfig)"""
    variant, name = request.param
    labeled, unlabeled, test = datasets
    folder = tmp_path_factory.mktemp("output")
    path = COCO / variant / name
    opts = {
        "MODEL.DEVICE": "meta",
        "MODEL.WEIGHTS": "",
        "OUTPUT_DIR": str(folder),
        "DATASETS.TRAIN_LABELED": str((labeled,)),
        "DATASETS.TRAIN_UNLABELED": str((unlabeled,)),
        "DATASETS.TEST": str((test,)),
    }
    lazy_opts = {
        "train.device": "meta",
        "train.init_checkpoint": "''",
        "train.output_dir": folder,
        "dataloader.train.labeled_names": f"[{labeled}]",
        "dataloader.train.unlabeled_names": f"[{unlabeled}]",
        "dataloader.test.dataset.names": test,
    }
    one = started(yaml_entry, path.with_suffix(".yaml"), [x for pair in opts.items() for x in pair])
    other = started(lazy_entry, path.with_suffix(".py"), [f"{k}={v}" for k, v in lazy_opts.items()])
    return variant, name, one, other


def loop(trainer):
    """The SimpleTrainer: in the trainer from YAML, or what comes from LazyConfig."""
    return getattr(trainer, "_trainer", trainer)


def hook(trainer, kind):
    (found,) = [h for h in trainer._hooks if isinstance(h, kind)]
    return found


def test_the_model_is_the_same(twins):
    *_, one, other = twins
    one, other = loop(one).model, loop(other).model
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (one, other)]
    assert len(shapes[0]) > 500 and difference(*shapes) == {}
    assert difference(fields(one), fields(other)) == {}
    frozen = [n for n, p in one.student.named_parameters() if not p.requires_grad]
    assert {n.split(".")[2] for n in frozen} == {"stem", "res2"}


def test_the_values_of_anchors_and_pixels_are_the_same():
    """What the meta device does not show."""
    cfg, lazy = load(*EXPERIMENTS[0]), load_lazy(*EXPERIMENTS[0])
    detector = lazy.model.student
    assert list(cfg.MODEL.PIXEL_MEAN) == list(detector.pixel_mean) == [103.53, 116.28, 123.675]
    assert list(cfg.MODEL.PIXEL_STD) == list(detector.pixel_std) == [1.0, 1.0, 1.0]
    shapes = [ShapeSpec(stride=2**n) for n in (2, 3, 4, 5, 6)]
    one = build_anchor_generator(cfg, shapes)
    other = instantiate(detector.proposal_generator.anchor_generator)
    for a, b in zip(one.cell_anchors, other.cell_anchors, strict=True):
        assert len(a) == 3 and torch.equal(a, b)


def test_the_optimizer_is_the_same(twins):
    variant, name, one, other = twins
    lazy_scheduler(other)  # notes the initial learning rate in the optimizer, as YAML's has
    optimizers = [loop(trainer).optimizer for trainer in (one, other)]
    assert difference(*map(fields, optimizers)) == {}
    (group,) = optimizers[1].param_groups
    assert type(optimizers[1]) is torch.optim.SGD
    assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4)
    assert group["initial_lr"] == expected(variant, name)["SOLVER.BASE_LR"]


def lazy_scheduler(trainer) -> LRMultiplier:
    """What Detectron2's hook makes before training."""
    multiplier = hook(trainer, hooks.LRScheduler).scheduler
    return LRMultiplier(trainer.optimizer, multiplier, trainer.max_iter, last_iter=trainer.iter - 1)


def rates(schedule: LRMultiplier, steps) -> dict:
    """{step: learning rate}"""
    found = {}
    for step in steps:
        schedule.last_epoch = step
        (found[step],) = schedule.get_lr()
    return found


def test_the_learning_rate_is_the_same_at_every_step(twins):
    variant, name, one, other = twins
    wanted = expected(variant, name)
    base, (first, second) = wanted["SOLVER.BASE_LR"], wanted["SOLVER.STEPS"]
    by_hand = {
        0: 0.001 * base,
        250: 0.5005 * base,
        500: base,
        first - 1: base,
        first + 2: base / 10,
    }
    by_hand.update({second - 1: base / 10, second + 2: base / 100})
    by_hand[wanted["SOLVER.MAX_ITER"] - 1] = base / 100
    steps = [*range(0, wanted["SOLVER.MAX_ITER"], 997), *range(first - 3, first + 3), *by_hand]
    schedules = [one.scheduler, lazy_scheduler(other)]
    assert one.max_iter == other.max_iter == wanted["SOLVER.MAX_ITER"]
    found = [rates(schedule, steps) for schedule in schedules]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert {step: found[0][step] for step in by_hand} == pytest.approx(by_hand)


def test_the_loader_is_the_same(twins):
    """Names of the datasets, policies, sizes of the batches, everything."""
    *_, one, other = twins
    loaders = [loop(trainer).data_loader for trainer in (one, other)]
    described = fields(loaders[0])
    assert any("mapper.augmentations" in path for path in described)
    assert difference(described, fields(loaders[1])) == {}


def test_the_first_batches_are_what_the_setting_says(twins):
    variant, name, _, other = twins
    wanted = expected(variant, name)
    schedule = loop(other).data_loader.schedule
    size, share = wanted["SOLVER.IMS_PER_BATCH"], wanted["SOFT_TEACHER.LABELED_SHARE"]
    counts = np.array([[schedule.count(s, t, 0) for s in (0, 1)] for t in range(1000)])
    assert (counts.sum(axis=1) == size).all()
    if variant != "reference" or share == 1:
        assert (counts[:, 0] == size * share).all()
    else:
        assert counts[:, 0].mean() == pytest.approx(size * share, rel=0.05)
        assert len(set(counts[:, 0])) > 5
    labeled_at_the_end = schedule.count(0, wanted["SOLVER.MAX_ITER"] - 1, 0)
    assert (labeled_at_the_end <= 1) == (wanted["SOFT_TEACHER.LABELED_SHARE_DECAY"] > 0)


def test_the_ema_and_the_loop_are_the_same(twins):
    variant, name, one, other = twins
    emas = [hook(trainer, EMAHook) for trainer in (one, other)]
    assert difference(*map(fields, emas)) == {}
    momentum = expected(variant, name)["SOFT_TEACHER.EMA.MOMENTUM"]
    assert emas[0].schedule == {"momentum": momentum, "ramp": True, "burn_in": 0}
    for trainer in (one, other):
        assert loop(trainer).precision == (torch.float16 if variant == "reference" else None)
        assert (loop(trainer).seed, loop(trainer).chunks) == (0, 1)
    assert difference(*(fields(loop(trainer).guard) for trainer in (one, other))) == {}


def test_the_test_loader_is_the_same(datasets):
    name = datasets[2]
    one = SoftTeacherTrainer.build_test_loader(load(*EXPERIMENTS[0]), name)
    lazy = load_lazy(*EXPERIMENTS[0], f"dataloader.test.dataset.names={name}")
    other = instantiate(lazy.dataloader.test)
    assert any("short_edge_length" in path for path in fields(one))
    assert difference(fields(one), fields(other)) == {}


@every_experiment
def test_the_values_of_the_config_are_the_same(variant, name):
    cfg, lazy = leaves(load(variant, name)), load_lazy(variant, name)
    assert cfg["SOFT_TEACHER.JITTER.ENABLED"] == (lazy.model.pseudo_labeler.jitter is not None)
    for key, lazy_key in SAME_VALUES.items():
        if "JITTER" in key and not cfg["SOFT_TEACHER.JITTER.ENABLED"]:
            continue
        one, other = cfg[key], OmegaConf.select(lazy, lazy_key)
        assert one == (tuple(other) if OmegaConf.is_list(other) else other), key
    assert cfg["DATASETS.TEST"] == (lazy.dataloader.test.dataset.names,)


# --- docs/coco.md -------------------------------------------------------------------------------


def documented_overrides() -> dict:
    """{what: (YAML's, LazyConfig's)} of the table in docs/coco.md."""
    section = (ROOT / "docs" / "coco.md").read_text().split("## Overrides")[1].split("##")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if "`" in line]
    rows = [row for row in rows if len(row) == 3]
    return {what: tuple(shlex.split(cell.strip("`")) for cell in cells) for what, *cells in rows}


OVERRIDES = documented_overrides()


def test_the_documented_baselines_are_the_configs_one_override_after_the_other():
    lines = (ROOT / "docs" / "multi_stage.md").read_text().split("| Row |")[1].splitlines()[2:]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[:6]]
    opts, lazy_opts = [], []
    for _, opt, lazy_opt, config, _ in reversed(rows[1:]):
        opts += shlex.split(opt)
        lazy_opts += shlex.split(lazy_opt)
        changed = difference(*(leaves(load(*e)) for e in (FULL_METHOD, config.split("/"))))
        by_hand = difference(*(leaves(load(*FULL_METHOD, *o)) for o in ([], opts)))
        assert by_hand == {k: v for k, v in changed.items() if k in by_hand}
        left = {"OUTPUT_DIR", "SOFT_TEACHER.EVAL_NETWORKS", "DATASETS.TRAIN_UNLABELED"}
        assert set(changed) - set(by_hand) <= left
        one, other = load_lazy(*FULL_METHOD, *lazy_opts), load_lazy(*config.split("/"))
        for part in ("model", "ema"):
            assert OmegaConf.to_container(one[part], resolve=True) == OmegaConf.to_container(
                other[part], resolve=True
            )
    assert len(opts) == 8 and set(by_hand) == set(changed) - left


def test_the_documented_overrides_are_found():
    assert len(OVERRIDES) == 8
    assert OVERRIDES["fold"] == (["DATASETS.SPLIT.FOLD", "2"], ["split.fold=2"])


@pytest.mark.parametrize("what", [what for what in OVERRIDES if "steps" not in what])
def test_a_documented_override_changes_both_configs(what):
    experiment = FULL_METHOD
    opts, (lazy_opt,) = OVERRIDES[what]
    assert len(difference(leaves(load(*experiment)), leaves(load(*experiment, *opts)))) == 1
    key, value = lazy_opt.split("=")
    before, after = (
        str(OmegaConf.select(load_lazy(*experiment, *overrides), key))
        for overrides in ([], [lazy_opt])
    )
    assert before != after.replace("'", "") == value


@pytest.mark.parametrize(
    "what, name, steps",
    [
        ("R-50, 1440k steps", "soft_teacher_R_50_FPN_full_720k", (1_440_000, 960_000, 1_280_000)),
        ("R-101, 1080k steps", "soft_teacher_R_101_FPN_full_720k", (1_080_000, 720_000, 960_000)),
    ],
)
def test_the_released_longer_schedules(what, name, steps):
    opts, lazy_opts = OVERRIDES[what]
    cfg, lazy = load("reference", name, *opts), load_lazy("reference", name, *lazy_opts)
    optimizers = [torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01) for _ in "ab"]
    one = build_lr_scheduler(cfg, optimizers[0])
    other = LRMultiplier(optimizers[1], instantiate(lazy.lr_multiplier), lazy.train.max_iter)
    length, first, second = steps
    # fvcore rounds by a millionth of the length, here more than a step.
    wanted = {250: 0.005005, 500: 0.01, first - 3: 0.01, first + 3: 0.001, second - 3: 0.001}
    wanted.update({second + 3: 0.0001, length - 1: 0.0001})
    assert rates(one, wanted) == pytest.approx(wanted)
    assert rates(other, wanted) == pytest.approx(wanted, rel=2e-3)
