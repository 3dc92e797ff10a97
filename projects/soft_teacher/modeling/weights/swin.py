"""Swin weights of other projects and of other windows in Detectron2's SwinTransformer."""

import re
from collections.abc import Mapping

import torch
from torch.nn import functional as F

__all__ = ["resized_bias_table", "swin_from_mmdet"]

NAMES = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^stages\.(\d+)\.", r"layers.\1."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
# Position in mmdetection's patches of the four pixels in Detectron2's order.
PIXELS = [0, 2, 1, 3]


def swin_from_mmdet(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of mmdetection's SwinTransformer under the names of Detectron2's.

    Patch merging concatenates the C channels of 2 x 2 pixels: mmdetection channel by channel, with
    the pixels (y, x) of each in the order (0,0), (0,1), (1,0), (1,1); Detectron2 pixel by pixel,
    (0,0), (1,0), (0,1), (1,1), with all channels of each. What follows it is reordered likewise.

    Args:
        state: keys as in a SwinTransformer of mmdetection, without a prefix.
    """
    return {_rename(key): _reorder(key, value) for key, value in state.items()}


def resized_bias_table(table: torch.Tensor, rows: int) -> torch.Tensor:
    """The relative position biases of a window of another size, by bicubic interpolation.

    Args:
        table: ((2 w - 1)^2, heads) of a window of w x w pixels: the bias of every offset, by rows.
        rows: (2 v - 1)^2 of a window of v x v.

    Returns:
        (rows, heads); what is at the ends of the one is near the ends of the other.
    """
    sides = [round(count**0.5) for count in (len(table), rows)]
    grid = table.T.reshape(1, -1, sides[0], sides[0])
    grid = F.interpolate(grid, (sides[1], sides[1]), mode="bicubic", align_corners=False)
    return grid.flatten(2)[0].T.contiguous()


def _rename(key: str) -> str:
    for pattern, name in NAMES:
        key = re.sub(pattern, name, key)
    return key


def _reorder(key: str, value: torch.Tensor) -> torch.Tensor:
    if ".downsample." not in key:
        return value
    return value.unflatten(-1, (-1, 4))[..., PIXELS].transpose(-1, -2).flatten(-2)
