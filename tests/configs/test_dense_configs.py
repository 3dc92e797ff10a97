"""Configs of single-stage detectors: what they change, and that both languages train the same."""

import pytest
import torch
from coco import ROOT, difference, leaves
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.fcos import FCOS
from object_fields import fields
from omegaconf import OmegaConf

from soft_teacher.experiment import lazy_config, yaml_config
from soft_teacher.modeling import FCOSFamily, RetinaNetFamily

CONFIGS = ROOT / "configs"
# Config -> what it is with a Faster R-CNN.
RETINANET = {
    "demo/retinanet_soft_teacher": "demo/soft_teacher",
    "demo/retinanet_supervised": "demo/supervised",
    "coco/retinanet_partial_180k": "coco/partial_180k",
    "coco/retinanet_full_720k": "coco/full_720k",
}
FCOS_S = {name.replace("retinanet", "fcos"): base for name, base in RETINANET.items()}
BOTH = RETINANET | FCOS_S


def load(name, *opts):
    return yaml_config.load_config(str(CONFIGS / f"{name}.yaml"), opts)


def load_lazy(name, *opts):
    return lazy_config.load_config(str(CONFIGS / f"{name}.py"), ["train.device=cpu", *opts])


def on_meta(build, *args):
    with torch.device("meta"):
        return build(*args)


# All that a detector and its thresholds are made of.
OF_DETECTOR = (
    *("MODEL.BACKBONE.NAME", "MODEL.RESNETS.OUT_FEATURES", "MODEL.FPN."),
    *("MODEL.ANCHOR_GENERATOR.", "MODEL.RETINANET.", "SOFT_TEACHER.DETECTOR"),
    *("SOFT_TEACHER.SCORE_THRESH", "SOFT_TEACHER.JITTER.", "OUTPUT_DIR"),
)
OF_DIGITS = ("SOFT_TEACHER.BURN_IN", "SOFT_TEACHER.DENSITY.", "SOFT_TEACHER.REG_NORMALIZER")


@pytest.mark.parametrize("name, base", RETINANET.items())
def test_the_detector_is_the_difference(name, base):
    found = difference(leaves(load(name)), leaves(load(base)))
    allowed = OF_DETECTOR + OF_DIGITS if name.startswith("demo") else OF_DETECTOR
    assert {key for key in found if not key.startswith(allowed)} == set()
    assert found["SOFT_TEACHER.DETECTOR"] == ("RetinaNet", "GeneralizedRCNN")


@pytest.mark.parametrize("name, base", FCOS_S.items())
def test_of_a_lazy_config_the_model_is_the_difference(name, base):
    configs = load_lazy(name), load_lazy(base)
    assert (configs[0].train.burn_in == 800) == (name == "demo/fcos_soft_teacher")
    on_digits = name.startswith("demo")
    assert (configs[0].dataloader.train.strong_augmentations.max_angle == 0) == on_digits
    assert (configs[0].model.alpha == 2) == (
        name in ("demo/fcos_soft_teacher", "coco/fcos_full_720k")
    )
    formulas = [configs[0].model.family.cls_formula, configs[1].model.student.roi_heads.cls_formula]
    assert formulas == ["reference" if name == "demo/fcos_soft_teacher" else "paper"] * 2
    for cfg in configs:
        cfg.train.update(burn_in=0, output_dir="")
    one, other = (OmegaConf.to_container(cfg, resolve=True) for cfg in configs)
    for part in one.keys() - {"model"}:
        assert one[part] == other[part], part
    changed = difference(one["model"], other["model"]).keys()
    assert changed <= {"student", "family", "pseudo_labeler"}


@pytest.mark.parametrize("name", RETINANET)
def test_the_model_and_the_steps_are_the_same_in_both_languages(name):
    cfg, lazy = load(name), load_lazy(name)
    cfg.MODEL.DEVICE = "meta"
    one, other = on_meta(build_model, cfg), on_meta(instantiate, lazy.model)
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (one, other)]
    assert difference(*shapes) == {} and difference(fields(one), fields(other)) == {}
    assert cfg.SOLVER.MAX_ITER == lazy.train.max_iter
    milestones = list(lazy.lr_multiplier.scheduler.milestones)
    assert list(cfg.SOLVER.STEPS) == milestones[: len(cfg.SOLVER.STEPS)]
    assert cfg.SOFT_TEACHER.BURN_IN == lazy.train.burn_in


@pytest.mark.parametrize("name", BOTH)
def test_thresholds_are_the_family_s(name):
    lazy = load_lazy(name)
    family, labeler = lazy_config.family_in(lazy), lazy.model.pseudo_labeler
    suited = family.thresholds
    assert family is (RetinaNetFamily if name in RETINANET else FCOSFamily)
    # Tuned on the digits.
    assert labeler.score_thresh == (0.5 if name.startswith("demo") else suited.score)
    assert labeler.candidate_thresh == suited.candidate
    assert labeler.variance_thresh == suited.variance


@pytest.mark.parametrize("depth, blocks", [(50, 6), (101, 23)])
@pytest.mark.parametrize("name", [name for name in BOTH if name.startswith("coco")])
@pytest.mark.long
def test_coco_s_detector_is_the_model_zoo_s_of_either_depth(name, depth, blocks):
    kind = "retinanet" if name in RETINANET else "fcos"
    path = "model.student.backbone.bottom_up.stages.depth"
    lazy = load_lazy(name, f"{path}={depth}")
    zoo = model_zoo.get_config(f"COCO-Detection/{kind}_R_50_FPN_1x.py")
    zoo.model.backbone.bottom_up.stages.depth = depth
    ours, stock = on_meta(instantiate, lazy.model).student, on_meta(instantiate, zoo.model)
    assert difference(fields(ours), fields(stock)) == {}
    assert len(ours.backbone.bottom_up.res4) == blocks
    if name in RETINANET:
        cfg = load(name, "MODEL.RESNETS.DEPTH", depth, "MODEL.DEVICE", "meta")
        assert difference(fields(on_meta(build_model, cfg).student), fields(stock)) == {}


@pytest.mark.parametrize("name", [name for name in FCOS_S if name.startswith("demo")])
def test_the_demo_s_fcos_is_small(name):
    student = on_meta(instantiate, load_lazy(name).model).student
    assert isinstance(student, FCOS) and student.num_classes == 5
    assert student.anchor_generator.strides == [4, 8]
    assert sum(p.numel() for p in student.parameters()) < 6e5
