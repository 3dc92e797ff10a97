"""The COCO configs: section 4.2, the released code, and docs/coco.md."""

import shlex

import pytest
import torch
import yaml
from coco import (
    ABLATIONS,
    COCO,
    EXPERIMENTS,
    FULL_METHOD,
    NAMES,
    RELEASED,
    ROOT,
    VARIANTS,
    difference,
    every_experiment,
    expected,
    leaves,
    load,
    load_lazy,
    rates,
)
from detectron2 import model_zoo
from detectron2.config import CfgNode, instantiate
from detectron2.solver import LRMultiplier, build_lr_scheduler
from omegaconf import OmegaConf

from soft_teacher.data.datasets.dataset_dicts import train_names
from soft_teacher.experiment.lazy_experiment import LazyExperiment

# tests/configs/test_htcpp_config.py
LAZY_ALONE = [f"htcpp_swin_L_{kind}_full_720k" for kind in ("soft_teacher", "supervised")]

# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [*VARIANTS, "ablation"])
@pytest.mark.parametrize("suffix", [".yaml", ".py"])
def test_every_experiment_is_there_and_nothing_else(folder, suffix):
    wanted = {name for variant, name in EXPERIMENTS if variant == folder}
    wanted |= set(LAZY_ALONE) if (folder, suffix) == ("paper", ".py") else set()
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
    assert LazyExperiment(load_lazy("ablation", "multi_stage", *lazy_opts)).train_names() == wanted


@pytest.mark.parametrize("variant, name", [e for e in EXPERIMENTS if "full" in e[1]])
def test_full_configs_name_their_datasets(variant, name):
    loader = load_lazy(variant, name).dataloader.train
    names = (list(loader.labeled_names), list(loader.unlabeled_names))
    assert names == train_names(load(variant, name))


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
