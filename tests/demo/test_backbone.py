"""The small ResNet-FPN."""

import pytest
import torch
from detectron2.modeling import FPN, build_backbone

from soft_teacher import ConfigError
from soft_teacher.demo import small_resnet_fpn


def small(**kwargs):
    settings = {
        "stem_channels": 4,
        "stage_channels": (4, 6, 8),
        "blocks": (1, 2, 1),
        "out_channels": 5,
        "norm": "BN",
    }
    torch.manual_seed(0)
    return small_resnet_fpn(**{**settings, **kwargs})


@pytest.mark.parametrize("stages", [1, 3, 4])
def test_one_level_per_stage_each_half_the_resolution_of_the_one_before(stages):
    channels, blocks = (4, 6, 8, 10)[:stages], (1, 2, 1, 1)[:stages]
    backbone = small(stage_channels=channels, blocks=blocks, in_channels=2)
    features, shapes = backbone(torch.rand(3, 2, 64, 96)), backbone.output_shape()
    assert sorted(features) == sorted(shapes) == ["p2", "p3", "p4", "p5"][:stages]
    for name, stride in zip(sorted(shapes), (4, 8, 16, 32)):
        assert (shapes[name].stride, shapes[name].channels) == (stride, 5)
        assert features[name].shape == (3, 5, 64 // stride, 96 // stride)
    assert backbone.size_divisibility == (4, 8, 16, 32)[stages - 1]
    assert tuple(len(stage) for stage in backbone.bottom_up.stages) == blocks
    widths = backbone.bottom_up.output_shape()
    assert tuple(widths[f"res{n + 2}"].channels for n in range(stages)) == channels


@pytest.mark.parametrize(
    "norm, layer", [("BN", torch.nn.BatchNorm2d), ("GN", torch.nn.GroupNorm), ("", None)]
)
def test_every_convolution_has_the_norm(norm, layer):
    backbone = small(
        norm=norm, stem_channels=32, stage_channels=(32, 64), blocks=(1, 1), out_channels=32
    )
    convs = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [type(m) for m in backbone.modules() if "Norm" in type(m).__name__]
    assert convs and norms == ([layer] * len(convs) if layer else [])


def test_every_parameter_is_trained_from_the_start():
    backbone = small()
    sum(f.sum() for f in backbone(torch.rand(2, 3, 32, 32)).values()).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.requires_grad and parameter.grad is not None, name


def test_the_config_builds_it_under_its_name(tiny_cfg):
    tiny_cfg.MODEL.RESNETS.NORM = "GN"
    tiny_cfg.MODEL.FPN.OUT_CHANNELS = 32
    tiny_cfg.SOFT_TEACHER.SMALL_RESNET.STEM_CHANNELS = 32
    tiny_cfg.SOFT_TEACHER.SMALL_RESNET.STAGE_CHANNELS = (64, 96)
    tiny_cfg.SOFT_TEACHER.SMALL_RESNET.BLOCKS = (2, 1)
    backbone = build_backbone(tiny_cfg)
    assert isinstance(backbone, FPN)
    shapes = backbone.output_shape()
    assert sorted(shapes) == ["p2", "p3"] and shapes["p2"].channels == 32
    bottom_up = backbone.bottom_up
    assert [len(stage) for stage in bottom_up.stages] == [2, 1]
    assert bottom_up.output_shape()["res2"].channels == 64
    assert bottom_up.stem.out_channels == 32
    assert any(isinstance(m, torch.nn.GroupNorm) for m in backbone.modules())


def test_its_checkpoints_name_the_stages_as_any_resnet_fpn_of_detectron2():
    keys = set(small().state_dict())
    for key in (
        "bottom_up.stem.conv1.weight",
        "bottom_up.res2.0.conv1.weight",
        "bottom_up.res3.0.shortcut.weight",
        "bottom_up.res3.1.conv2.norm.running_mean",
        "fpn_lateral2.weight",
        "fpn_output4.weight",
    ):
        assert key in keys


@pytest.mark.parametrize(
    "channels, blocks, message",
    [
        ((), (), r"stage_channels \(0\) and .*blocks \(0\) must name"),
        ((4, 6, 8), (1, 1), "must name the same stages"),
        ((4, 6), (1, 1, 1), "must name the same stages"),
        ((4, 6), (1, 0), "blocks must be at least 1 each"),
        ((4, 8, 8), (1, 1, 1), "stage_channels must change"),
    ],
)
def test_impossible_stages_are_refused_by_their_key(tiny_cfg, channels, blocks, message):
    tiny_cfg.SOFT_TEACHER.SMALL_RESNET.STAGE_CHANNELS = channels
    tiny_cfg.SOFT_TEACHER.SMALL_RESNET.BLOCKS = blocks
    with pytest.raises(ConfigError, match=rf"^small_resnet_fpn\..*{message}.*\Z"):
        build_backbone(tiny_cfg)
