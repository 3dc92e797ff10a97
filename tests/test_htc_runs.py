"""HTC trains from a LazyConfig, also as Soft Teacher; a resumed run equals another."""

import math

import pytest
import torch
from detectron2.config import LazyCall as L
from interrupted import Training
from PIL import Image
from training import (
    LAZY_OPTS,
    arguments,
    interrupted_after_2_of_4_steps,
    metrics,
    train_lazy,
    weights,
)

from soft_teacher import ConfigError
from soft_teacher.data.semantic_maps import MapFiles
from soft_teacher.experiment.entry import load_experiment

pytestmark = pytest.mark.usefixtures("tiny_digits")

# Pseudo boxes of an untrained teacher, and small heads' worth of proposals.
OPTS = [
    *("model.pseudo_labeler.score_thresh=0.15", "model.pseudo_labeler.candidate_thresh=0.15"),
    "model.pseudo_labeler.variance_thresh=0.5",
    "model.student.proposal_generator.post_nms_topk=[24,12]",
    "model.student.roi_heads.batch_size_per_image=12",
    "dataloader.test.dataset.names=[]",
]
MAPS, HEAD = "dataloader.train.semantic_maps", "model.student.roi_heads.semantic_head"
STAGED = ("loss_cls", "loss_box_reg", "loss_mask")


@pytest.fixture(scope="module")
def trained(tiny_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("htc")
    train_lazy(folder, *OPTS, config="htc_soft_teacher.py")
    return folder


def losses(folder):
    return {name: value for name, value in metrics(folder).items() if "/loss_" in name}


def test_every_stage_learns_from_both_streams_and_maps_from_labels(trained):
    found = losses(trained)
    for stream in ("sup", "unsup"):
        names = {f"{stream}/{name}_stage{stage}" for name in STAGED for stage in range(3)}
        assert names <= found.keys()
    assert len(found) == 2 * (2 + 3 * 3) + 1 and found["sup/loss_sem_seg"] > 0
    assert all(value > 0 for name, value in found.items() if "loss_mask" not in name), found
    assert metrics(trained)["pseudo/num_reg_boxes"] > 0


def test_a_resumed_run_ends_with_the_same_weights(trained, tmp_path):
    interrupted_after_2_of_4_steps(train_lazy, tmp_path, *OPTS, config="htc_soft_teacher.py")
    train_lazy(tmp_path, *OPTS, config="htc_soft_teacher.py", resume=True)
    found, expected = weights(tmp_path), weights(trained)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert losses(tmp_path) == losses(trained)


SUPERVISED = ["dataloader.train.unlabeled_names=[]", "train.max_iter=1"]


def train_with(folder, maps):
    """Two supervised steps with these semantic maps."""
    opts = [*LAZY_OPTS, *OPTS, *SUPERVISED, f"train.output_dir={folder}"]
    args = arguments("htc_supervised.py", opts)
    experiment = load_experiment(args.config_file, args.opts)
    experiment.cfg.dataloader.train.semantic_maps = maps
    experiment.main(args)


def test_files_of_semantic_maps_are_learned_from(tiny_digits, tmp_path):
    (tmp_path / "maps").mkdir()
    for file in (tiny_digits / "digits" / "train").glob("*.jpg"):
        Image.new("L", Image.open(file).size, 3).save(tmp_path / "maps" / f"{file.stem}.png")
    train_with(tmp_path / "run", L(MapFiles)(folders=str(tmp_path / "maps"), num_classes=6))
    assert losses(tmp_path / "run")["sup/loss_sem_seg"] > 0


def test_a_missing_folder_of_semantic_maps_names_its_path(tmp_path):
    with pytest.raises(ConfigError) as error:
        train_with(tmp_path / "run", L(MapFiles)(folders=str(tmp_path / "maps"), num_classes=6))
    said = str(error.value)
    assert said.startswith(f"{MAPS}.folders names {tmp_path}") and "\n" not in said
    assert said.endswith(f"or set {MAPS} and {HEAD} to None")


@pytest.mark.parametrize(
    "opts, said",
    [
        (f"{HEAD}=null", f"{HEAD} is None and {MAPS} has 6: give both"),
        (f"{MAPS}=null", f"{HEAD} learns 6 classes and {MAPS} is None"),
        (f"{MAPS}.num_classes=8", f"{HEAD} learns 6 classes and {MAPS} has 8"),
        (f"{MAPS}.num_classes=300", f"{MAPS}.num_classes must lie in [1, 255]"),
        (f"{MAPS}.num_classes=5 {HEAD}.num_classes=5", f"{MAPS}.num_classes must be 6 at least"),
        ("dataloader.train.masks=False", "set dataloader.train.masks to True"),
        ("model.student.roi_heads.mask_merge=first", "mask_merge must be one of last, mean"),
        ("model.student.roi_heads.scores=first", "model.student.roi_heads.scores must be one of"),
        (
            "model.student.roi_heads.box_predictors.2.soft_nms=hard",
            "box_predictors[2].soft_nms must be one of none",
        ),
        (
            "model.family._target_=soft_teacher.modeling.FasterRCNNFamily",
            "got HybridTaskCascade with SoftTeacherHTCROIHeads",
        ),
    ],
)
def test_a_mistake_names_its_path(opts, said, tmp_path):
    with pytest.raises(ConfigError) as error:
        train_lazy(tmp_path, *SUPERVISED, *opts.split(), config="htc_supervised.py")
    assert said in str(error.value) and "\n" not in str(error.value)


# --- Swin, with stochastic depth

SWIN = [
    *("train.max_iter=8", "train.checkpointer.period=3", "train.log_period=1"),
    *("dataloader.train.labeled_share=1.0", "dataloader.train.unlabeled_names=[]"),
    "lr_multiplier.scheduler.milestones=[6,8]",
]


@pytest.mark.long
def test_a_killed_run_with_swin_resumes_to_the_same_bits(tiny_digits, tmp_path):
    def training(name):
        return Training(tmp_path / name, *OPTS, *SWIN, processes=1, config="htc_swin.py")

    whole, killed = training("whole").finish(), training("killed").start()
    killed.kill(after_lines=5)
    killed.finish(resume=True)
    found, expected = (weights(run.folder) for run in (killed, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert killed.lines() == whole.lines()


# --- HTC++

HTCPP = [
    "model.student.backbone.bottom_up.use_checkpoint=True",
    "model.student.backbone.bottom_up.global_attention={_target_: "
    "soft_teacher.modeling.backbones.global_attention.GlobalAttention, channels: 96, num_heads: 8}",
    "dataloader.train.instance_paste={_target_: "
    "soft_teacher.data.augmentation.instance_paste.InstancePaste, prob: 1.0}",
]


@pytest.mark.long
def test_the_parts_of_htcpp_train_together(tiny_digits, tmp_path):
    opts = ["dataloader.test.dataset.names=[]", *SUPERVISED, *HTCPP]
    train_lazy(tmp_path, *opts, config="htc_swin.py")
    found = losses(tmp_path)
    assert len(found) == 2 * (2 + 3 * 3) + 1 and all(map(math.isfinite, found.values()))
    trained = weights(tmp_path)
    name = "backbone.bottom_up.global_attention.attn.qkv.weight"
    assert not torch.equal(trained[f"student.{name}"], trained[f"teacher.{name}"])
