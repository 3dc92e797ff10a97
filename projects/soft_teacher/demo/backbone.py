"""A small ResNet-FPN, trained from scratch, for images of some hundred pixels."""

from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem

from ..utils.errors import ConfigError

__all__ = ["small_resnet_fpn", "build_small_resnet_fpn_backbone"]


def small_resnet_fpn(
    *,
    in_channels: int = 3,
    stem_channels: int,
    stage_channels: Sequence[int],
    blocks: Sequence[int],
    out_channels: int,
    norm: str,
) -> FPN:
    """FPN over a ResNet of basic blocks, output p2 and coarser, one level per stage.

    Args:
        stem_channels, stage_channels, blocks: width of the stem, width and number of blocks of
            each of the stages res2 and on.
        out_channels: width of the feature pyramid.
        norm: normalisation layer, as Detectron2 names it.

    Raises:
        ConfigError: for stages that cannot be built.
    """
    _check_stages(stage_channels, blocks)
    stages, width = [], stem_channels
    for index, (channels, num_blocks) in enumerate(zip(stage_channels, blocks)):
        stages.append(
            ResNet.make_stage(
                BasicBlock,
                num_blocks,
                stride_per_block=[1 if index == 0 else 2] + [1] * (num_blocks - 1),
                in_channels=width,
                out_channels=channels,
                norm=norm,
            )
        )
        width = channels
    names = [f"res{index + 2}" for index in range(len(stages))]
    bottom_up = ResNet(BasicStem(in_channels, stem_channels, norm), stages, out_features=names)
    return FPN(
        bottom_up=bottom_up,
        in_features=names,
        out_channels=out_channels,
        norm=norm,
    )


@BACKBONE_REGISTRY.register()
def build_small_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """:func:`small_resnet_fpn` from SOFT_TEACHER.SMALL_RESNET and MODEL.FPN.OUT_CHANNELS."""
    small = cfg.SOFT_TEACHER.SMALL_RESNET
    return small_resnet_fpn(
        in_channels=input_shape.channels,
        stem_channels=small.STEM_CHANNELS,
        stage_channels=small.STAGE_CHANNELS,
        blocks=small.BLOCKS,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.RESNETS.NORM,
    )


def _check_stages(channels: Sequence[int], blocks: Sequence[int]) -> None:
    if not channels or len(channels) != len(blocks):
        raise ConfigError(
            f"small_resnet_fpn.stage_channels ({len(channels)}) and small_resnet_fpn.blocks "
            f"({len(blocks)}) must name the same stages, at least one"
        )
    if min(blocks) < 1:
        raise ConfigError(f"small_resnet_fpn.blocks must be at least 1 each, got {tuple(blocks)}")
    if any(a == b for a, b in zip(channels, channels[1:])):
        # Detectron2's block has a strided shortcut only where the width changes
        raise ConfigError("small_resnet_fpn.stage_channels must change from stage to stage")
