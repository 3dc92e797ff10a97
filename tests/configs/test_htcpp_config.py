"""HTC++ with Swin-L as docs/paper.md describes it."""

import copy

import pytest
from coco import COCO
from detectron2.config import instantiate
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from omegaconf import OmegaConf

from soft_teacher.data.augmentation.instance_paste import InstancePaste
from soft_teacher.data.augmentation.spatial import ShortEdgeScaleJitter
from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.lazy_experiment import LazyExperiment
from soft_teacher.modeling import HTCFamily

NAMES = {
    "supervised": "htcpp_swin_L_supervised_full_720k",
    "soft_teacher": "htcpp_swin_L_soft_teacher_full_720k",
}


@pytest.fixture(scope="module")
def experiments():
    return {
        kind: load_experiment(str(COCO / "paper" / f"{name}.py"), ["train.device=cpu"])
        for kind, name in NAMES.items()
    }


@pytest.fixture(scope="module")
def cfg(experiments):
    return experiments["soft_teacher"].cfg


@pytest.fixture(scope="module")
def model(experiments):
    """Without memory."""
    return experiments["soft_teacher"].bare_model()


def test_it_has_the_published_number_of_parameters(model):
    """284 M, in the README of Swin-Transformer-Object-Detection."""
    count = sum(parameter.numel() for parameter in model.student.parameters())
    assert count == pytest.approx(284e6, abs=0.5e6)


def test_the_backbone_is_a_swin_l_of_window_7_with_attention_after_its_last_stage(model):
    swin = model.student.backbone.bottom_up
    assert [len(layer.blocks) for layer in swin.layers] == [2, 2, 18, 2]
    assert [layer.blocks[0].attn.num_heads for layer in swin.layers] == [6, 12, 24, 48]
    assert swin.num_features == [192, 384, 768, 1536]
    assert {block.window_size for layer in swin.layers for block in layer.blocks} == {7}
    assert swin.layers[-1].blocks[-1].drop_path.p == pytest.approx(0.2)
    attention = swin.global_attention
    assert attention.attn.num_heads == 48 and attention.mlp.fc1.out_features == 4 * 1536
    assert attention.drop_path.p == 0.2
    assert list(model.student.backbone.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    assert isinstance(model.student.backbone.top_block, LastLevelMaxPool)


def test_box_heads_have_four_convolutions_and_one_layer(model):
    heads = model.student.roi_heads
    for head, predictor in zip(heads.box_head, heads.box_predictor):
        assert [conv.norm for conv in head.conv_norm_relus] == [None] * 4
        assert [layer.out_features for layer in head.fcs] == [1024]
        assert predictor.bbox_pred.out_features == 4 and predictor.cls_score.out_features == 81
    assert heads.box_predictor[-1].soft_nms == "linear"
    assert heads.box_predictor[-1].test_score_thresh == 0.001
    assert (
        isinstance(model.family, HTCFamily) and model.family.semantic_classes(model.student) == 183
    )


def test_images_are_those_of_imagenet_and_of_many_scales(cfg):
    loader = cfg.dataloader.train
    for view in ("labeled", "strong", "weak"):
        scale = instantiate(loader[f"{view}_augmentations"])[0]
        assert isinstance(scale, ShortEdgeScaleJitter) and scale.max_size == 1600
        assert [scale.base * edge for edge in scale.scale_range] == [400, 1400]
    (resize,) = instantiate(cfg.dataloader.test.mapper.augmentations)
    assert (resize.short_edge_length, resize.max_size) == ((1400, 1400), 1600)
    formats = [loader.image_format, cfg.dataloader.test.mapper.image_format]
    formats += [loader[f"{view}_augmentations"].image_format for view in ("labeled", "strong")]
    assert formats == ["RGB"] * 4
    assert cfg.model.student.pixel_mean == [123.675, 116.28, 103.53]
    assert cfg.model.student.pixel_std == [58.395, 57.12, 57.375]


def test_several_scales_are_a_switch(experiments):
    for experiment in experiments.values():
        assert experiment.multi_scale() is not None
        aug = experiment.cfg.dataloader.test_aug
        assert not aug.enabled and aug.flip and not aug.box_sizes
        sizes = list(zip(aug.min_sizes, aug.max_sizes))
        assert sizes == [(1000, 1600), (1400, 1600), (1200, 1800), (1600, 1800)]


def test_labeled_objects_are_moved_as_by_instaboost(cfg):
    paste = instantiate(cfg.dataloader.train.instance_paste)
    assert isinstance(paste, InstancePaste) and cfg.dataloader.train.mask_format == "bitmask"
    assert (paste.prob, paste.scale_range, paste.max_angle) == (0.5, (0.8, 1.2), 1.0)
    assert paste.max_shift == pytest.approx(1 / 15)


def test_adamw_decays_neither_norms_nor_position_biases(cfg, model):
    optimizer = LazyExperiment(copy.deepcopy(cfg)).build_optimizer(model)
    assert type(optimizer).__name__ == "AdamW"
    swin = model.student.backbone.bottom_up
    block = swin.layers[1].blocks[0]
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    free = [block.norm1.weight, swin.norm3.bias, block.attn.relative_position_bias_table]
    assert [decays[id(p)] for p in free] == [0.0] * 3
    assert (
        decays[id(block.attn.qkv.weight)] == decays[id(swin.global_attention.mlp.fc2.bias)] == 0.05
    )
    assert {group["lr"] for group in optimizer.param_groups} == {1e-4}


def test_the_schedule_is_that_of_fully_labeled_data(cfg):
    assert cfg.train.max_iter == 720_000
    assert cfg.lr_multiplier.scheduler.milestones == [480_000, 680_000]
    assert cfg.dataloader.train.batch_size == 64 and cfg.model.alpha == 2.0


def test_the_baseline_differs_in_its_images_alone(experiments):
    flat = [OmegaConf.to_container(experiments[kind].cfg, resolve=False) for kind in NAMES]
    loaders = [config["dataloader"].pop("train") for config in flat]
    assert {key for key in loaders[0] if loaders[0][key] != loaders[1][key]} == {
        *("batch_size", "labeled_share", "decay_steps"),
    }
    assert (loaders[0]["batch_size"], loaders[0]["labeled_share"]) == (16, 1.0)
    trains = [config.pop("train") for config in flat]
    assert {key for key in trains[0] if trains[0][key] != trains[1][key]} == {"output_dir"}
    assert flat[0] == flat[1]


@pytest.mark.parametrize("kind", NAMES)
def test_its_settings_fit_together(kind, experiments):
    assert experiments[kind].check_settings(eval_only=False) == []
