"""The COCO configs: YAML and LazyConfig make the same training."""

import copy
from argparse import Namespace

import numpy as np
import pytest
import torch
from coco import (
    COCO,
    EXPERIMENTS,
    ROOT,
    difference,
    every_experiment,
    expected,
    leaves,
    load,
    load_lazy,
    rates,
)
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import TrainerBase, hooks
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator
from detectron2.solver import LRMultiplier
from object_fields import fields
from omegaconf import OmegaConf
from training import main

from soft_teacher.engine import EMAHook
from soft_teacher.experiment import SoftTeacherTrainer, config_checks, experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.experiment.yaml_experiment import YamlExperiment

# What can be compared without building anything.
SAME_VALUES = {
    "MODEL.RESNETS.DEPTH": "model.student.backbone.bottom_up.stages.depth",
    "MODEL.WEIGHTS": "train.init_checkpoint",
    "DATALOADER.MAX_UNREADABLE": "dataloader.train.max_unreadable",
    "INPUT.MAX_PIXELS": "dataloader.train.max_pixels",
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
    "TEST.AUG.ENABLED": "dataloader.test_aug.enabled",
    "TEST.AUG.MIN_SIZES": "dataloader.test_aug.min_sizes",
    "TEST.AUG.MAX_SIZE": "dataloader.test_aug.max_size",
    "TEST.AUG.MAX_SIZES": "dataloader.test_aug.max_sizes",
    "TEST.AUG.FLIP": "dataloader.test_aug.flip",
    "TEST.AUG.BOX_SIZES": "dataloader.test_aug.box_sizes",
    "SOFT_TEACHER.ALPHA": "model.alpha",
    "SOFT_TEACHER.BURN_IN": "train.burn_in",
    "SOFT_TEACHER.LABELED_SHARE": "dataloader.train.labeled_share",
    "SOFT_TEACHER.LABELED_SHARE_DECAY": "dataloader.train.decay_steps",
    "SOFT_TEACHER.LABELED_DRAW": "dataloader.train.draw",
    "SOFT_TEACHER.TEACHER_PROPOSALS": "model.family.teacher_proposals",
    "SOFT_TEACHER.CLS_FORMULA": "model.student.roi_heads.cls_formula",
    "SOFT_TEACHER.LABEL_SOURCE": "train.label_source",
    "SOFT_TEACHER.INDICATOR": "model.student.roi_heads.indicator",
    "SOFT_TEACHER.SOFT_NMS": "model.student.roi_heads.box_predictor.soft_nms",
    "SOFT_TEACHER.SOFT_NMS_SIGMA": "model.student.roi_heads.box_predictor.soft_nms_sigma",
    "SOFT_TEACHER.JITTER.ENABLED": "model.pseudo_labeler.measure_stability",
    "SOFT_TEACHER.JITTER.DISTRIBUTION": "model.family.jitter.distribution",
    "SOFT_TEACHER.JITTER.STABLE_SHARE": "model.pseudo_labeler.stable_share",
    "SOFT_TEACHER.DENSITY.ENABLED": "model.pseudo_labeler.by_density",
    "SOFT_TEACHER.DENSITY.FOREGROUND": "model.pseudo_labeler.density.foreground",
    "SOFT_TEACHER.DENSITY.IGNORE": "model.pseudo_labeler.density.ignore",
    "SOFT_TEACHER.DENSITY.REGRESSION": "model.pseudo_labeler.density.regression",
    "SOFT_TEACHER.DENSITY.WINDOW": "model.pseudo_labeler.density.window",
    "SOFT_TEACHER.DENSITY.FLOOR": "model.pseudo_labeler.density.floor",
    "SOFT_TEACHER.STATISTICS": "model.statistics",
    "SOFT_TEACHER.EMA.THROUGH_BURN_IN": "ema.through_burn_in",
    "SOFT_TEACHER.EMA.MOMENTUM": "ema.momentum",
    "SOFT_TEACHER.EMA.BUFFERS": "ema.buffers",
    "SOFT_TEACHER.AUGMENTATION.VARIANT": "dataloader.train.strong_augmentations.variant",
    "SOFT_TEACHER.RESUME_CHANGED": "train.resume_changed",
    "SOFT_TEACHER.EVAL_NETWORKS": "train.eval_networks",
    "SEED": "train.seed",
    "OUTPUT_DIR": "train.output_dir",
}


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
    wide = {"height": 480, "width": 640, "annotations": [box]}
    images = [wide, {**wide, "height": 700}, {**wide, "annotations": []}]
    files = sorted(map(str, (ROOT / "tests").rglob("*.py")))  # nobody looks into them
    for number, (image, file) in enumerate(zip(images, files)):
        image.update(file_name=file, image_id=number)
    names = [f"coco_config_{part}" for part in ("labeled", "unlabeled", "test")]
    for name in names:
        DatasetCatalog.register(name, lambda: images)
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def started(path, opts):
    """The trainer that is handed over to the training loop, networks on the meta device."""
    kept = []

    def train(self, start, max_iter):
        self.max_iter = max_iter
        kept.append(self)

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(TrainerBase, "train", train)
        patch.setattr(experiment, "default_setup", lambda *args: None)
        patch.setattr(config_checks, "check_amp", lambda *args: None)
        main(Namespace(config_file=str(path), opts=opts, eval_only=False, resume=False))
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
    one = started(path.with_suffix(".yaml"), [x for pair in opts.items() for x in pair])
    other = started(path.with_suffix(".py"), [f"{k}={v}" for k, v in lazy_opts.items()])
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
        assert (loop(trainer).seed, loop(trainer).micro_batches) == (0, 1)
    assert difference(*(fields(loop(trainer).guard) for trainer in (one, other))) == {}


def test_the_test_loader_is_the_same(datasets):
    name = datasets[2]
    one = SoftTeacherTrainer.build_test_loader(load(*EXPERIMENTS[0]), name)
    lazy = load_lazy(*EXPERIMENTS[0], f"dataloader.test.dataset.names={name}")
    other = instantiate(lazy.dataloader.test)
    assert any("short_edge_length" in path for path in fields(one))
    assert any(path.endswith("max_pixels") for path in fields(one))
    assert difference(fields(one), fields(other)) == {}


def test_tools_find_the_limit_of_an_image_s_size_in_both_languages():
    assert YamlExperiment(load(*EXPERIMENTS[0])).max_pixels == 180_000_000
    lazy = copy.deepcopy(load_lazy(*EXPERIMENTS[0]))
    assert LazyExperiment(lazy).max_pixels == 180_000_000
    del lazy.dataloader.train.max_pixels, lazy.dataloader.test.mapper.max_pixels
    assert LazyExperiment(lazy).max_pixels == 180_000_000
    lazy.dataloader.train.max_pixels = 9
    assert LazyExperiment(lazy).max_pixels == 9


@every_experiment
def test_the_values_of_the_config_are_the_same(variant, name):
    cfg, lazy = leaves(load(variant, name)), load_lazy(variant, name)
    for key, lazy_key in SAME_VALUES.items():
        one, other = cfg[key], OmegaConf.select(lazy, lazy_key)
        assert one == (tuple(other) if OmegaConf.is_list(other) else other), key
    assert cfg["DATASETS.TEST"] == (lazy.dataloader.test.dataset.names,)
