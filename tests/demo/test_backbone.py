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


def test_one_level_per_stage_each_half_the_resolution_of_the_one_before():
    for stages, levels in ((1, ["p2"]), (3, ["p2", "p3", "p4"]), (4, ["p2", "p3", "p4", "p5"])):
        backbone = small(stage_channels=(4, 6, 8, 10)[:stages], blocks=(1,) * stages)
        shapes = backbone.output_shape()
        assert sorted(shapes) == levels
        assert [shapes[p].stride for p in levels] == [4, 8, 16, 32][:stages]
        assert {shapes[p].channels for p in levels} == {5}


@pytest.mark.parametrize("images, size", [(1, (32, 32)), (2, (64, 96))])
def test_features_have_the_shape_they_claim(images, size):
    backbone = small()
    features = backbone(torch.rand(images, 3, *size))
    shapes = backbone.output_shape()
    assert sorted(features) == sorted(shapes)
    for name, shape in shapes.items():
        expected = (images, 5, size[0] // shape.stride, size[1] // shape.stride)
        assert features[name].shape == expected


def test_images_are_to_be_padded_to_the_coarsest_stride():
    assert small().size_divisibility == 16


def test_blocks_per_stage_and_widths_are_as_asked():
    bottom_up = small().bottom_up
    assert [len(stage) for stage in bottom_up.stages] == [1, 2, 1]
    widths = [bottom_up.output_shape()[name].channels for name in ("res2", "res3", "res4")]
    assert widths == [4, 6, 8]


def test_other_numbers_of_input_channels():
    assert small(in_channels=1)(torch.rand(1, 1, 32, 32))["p2"].shape == (1, 5, 8, 8)


@pytest.mark.parametrize(
    "norm, layer", [("BN", torch.nn.BatchNorm2d), ("GN", torch.nn.GroupNorm), ("", None)]
)
def test_every_convolution_has_the_norm(norm, layer):
    backbone = small(
        norm=norm, stem_channels=32, stage_channels=(32, 64), blocks=(1, 1), out_channels=32
    )
    convs = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in backbone.modules() if "Norm" in type(m).__name__]
    assert convs
    if layer is None:
        assert not norms
    else:
        assert len(norms) == len(convs) and all(isinstance(m, layer) for m in norms)


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
    "settings",
    [
        pytest.param({"STAGE_CHANNELS": (4, 6, 8), "BLOCKS": (1, 1)}, id="a stage too many"),
        pytest.param({"STAGE_CHANNELS": (4, 6), "BLOCKS": (1, 1, 1)}, id="a stage too few"),
        pytest.param({"STAGE_CHANNELS": (), "BLOCKS": ()}, id="no stages"),
        pytest.param({"STAGE_CHANNELS": (4, 6), "BLOCKS": (1, 0)}, id="no blocks"),
    ],
)
def test_impossible_stages_are_refused_by_their_key(tiny_cfg, settings):
    for key, value in settings.items():
        tiny_cfg.SOFT_TEACHER.SMALL_RESNET[key] = value
    with pytest.raises(ConfigError, match=r"^small_resnet_fpn\..*\Z"):
        build_backbone(tiny_cfg)


def test_neighbouring_stages_must_differ_in_width():
    """Detectron2's BasicBlock has a strided shortcut only where the width changes."""
    with pytest.raises(ConfigError, match="stage_channels must change"):
        small(stage_channels=(4, 8, 8))
