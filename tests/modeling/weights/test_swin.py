"""Swin weights of mmdetection under Detectron2's names."""

import math

import numpy as np
import pytest
import torch
from detectron2.modeling import SwinTransformer
from detectron2.modeling.backbone.swin import PatchMerging
from torch.nn import functional as F

from soft_teacher.modeling.weights.swin import resized_bias_table, swin_from_mmdet

NAMES = {
    "patch_embed.projection.weight": "patch_embed.proj.weight",
    "patch_embed.norm.bias": "patch_embed.norm.bias",
    "stages.0.blocks.1.norm1.weight": "layers.0.blocks.1.norm1.weight",
    "stages.2.blocks.10.attn.w_msa.qkv.bias": "layers.2.blocks.10.attn.qkv.bias",
    "stages.3.blocks.0.attn.w_msa.relative_position_bias_table": (
        "layers.3.blocks.0.attn.relative_position_bias_table"
    ),
    "stages.1.blocks.0.ffn.layers.0.0.weight": "layers.1.blocks.0.mlp.fc1.weight",
    "stages.1.blocks.0.ffn.layers.1.bias": "layers.1.blocks.0.mlp.fc2.bias",
    "norm3.weight": "norm3.weight",
}


def test_no_weights():
    assert swin_from_mmdet({}) == {}


@pytest.mark.parametrize("name, expected", NAMES.items())
def test_names(name, expected):
    value = torch.zeros(8)
    assert swin_from_mmdet({name: value}) == {expected: value}


def test_the_inputs_of_patch_merging_are_reordered():
    # mmdetection: channel by channel, its pixels (0,0), (0,1), (1,0), (1,1).
    state = {
        "stages.0.downsample.norm.bias": torch.arange(8),
        "stages.0.downsample.reduction.weight": torch.arange(32).reshape(4, 8),
    }
    found = swin_from_mmdet(state)
    order = [0, 4, 2, 6, 1, 5, 3, 7]
    assert found["layers.0.downsample.norm.bias"].tolist() == order
    assert found["layers.0.downsample.reduction.weight"].tolist() == [
        [8 * row + i for i in order] for row in range(4)
    ]


def test_patch_merging_computes_the_same():
    """mmdetection unfolds 2 x 2 pixels, which is channel by channel."""
    torch.manual_seed(0)
    c, h, w = 3, 6, 8
    x = torch.randn(2, c, h, w).double()
    weight, bias, matrix = (torch.randn(s).double() for s in (4 * c, 4 * c, (2 * c, 4 * c)))
    unfolded = F.unfold(x, 2, stride=2).transpose(1, 2)
    expected = F.layer_norm(unfolded, (4 * c,), weight, bias) @ matrix.T

    values = {"norm.weight": weight, "norm.bias": bias, "reduction.weight": matrix}
    state = swin_from_mmdet({f"stages.0.downsample.{k}": v for k, v in values.items()})
    merging = PatchMerging(c).double()
    merging.load_state_dict({k.removeprefix("layers.0.downsample."): v for k, v in state.items()})
    torch.testing.assert_close(merging(x.flatten(2).transpose(1, 2), h, w), expected)


def test_every_weight_of_a_swin_has_its_own():
    swin = SwinTransformer(
        embed_dim=8, depths=[2, 2], num_heads=[2, 2], out_indices=(0, 1), drop_path_rate=0.0
    )
    names = {
        "patch_embed.proj.": "patch_embed.projection.",
        "layers.": "stages.",
        ".attn.": ".attn.w_msa.",
        ".mlp.fc1.": ".ffn.layers.0.0.",
        ".mlp.fc2.": ".ffn.layers.1.",
    }
    state = {}
    for key, value in swin.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        state[key] = value
    swin.load_state_dict(swin_from_mmdet(state), strict=True)


# --- windows


def cubic(distance):
    """Keys' kernel with a = -0.75."""
    t, a = abs(distance), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def sampling(source, target):
    """(target, source) weights of samples at the centers of as many equal parts."""
    found = np.zeros((target, source))
    for row in range(target):
        place = (row + 0.5) * source / target - 0.5
        for near in range(math.floor(place) - 1, math.floor(place) + 3):
            found[row, min(max(near, 0), source - 1)] += cubic(place - near)
    return found


@pytest.mark.parametrize("source, target", [(12, 7), (7, 12), (7, 7), (2, 4)])
def test_biases_of_another_window_are_interpolated_for_each_head(source, target):
    sides = 2 * source - 1, 2 * target - 1
    table = np.random.default_rng(0).normal(size=(sides[0] ** 2, 3))
    found = resized_bias_table(torch.from_numpy(table), sides[1] ** 2)
    assert found.shape == (sides[1] ** 2, 3) and found.is_contiguous()
    weights = sampling(*sides)
    for head in range(3):
        grid = weights @ table[:, head].reshape(sides[0], sides[0]) @ weights.T
        np.testing.assert_allclose(found[:, head].reshape(sides[1], -1), grid, atol=1e-9)
