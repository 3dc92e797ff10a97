"""Stochastic depth of a Swin."""

import sys

import pytest
import torch
from detectron2.modeling import SwinTransformer

from soft_teacher.modeling.backbones.swin import Swin

TINY = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "out_indices": (0, 1)}


def swin(cls=Swin, **kwargs):
    torch.manual_seed(0)
    return cls(**TINY, **kwargs)


def images(n=2):
    return torch.randn(n, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def test_no_package_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert swin(drop_path_rate=0.5).train()(images())["p1"].shape == (2, 16, 4, 5)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_weights_and_predictions_are_detectron2_s(rate):
    ours, stock = swin(drop_path_rate=rate).eval(), swin(SwinTransformer, drop_path_rate=0.0).eval()
    ours.load_state_dict(stock.state_dict(), strict=True)
    for name, x in stock(images()).items():
        assert torch.equal(ours(images())[name], x)


def test_the_rate_grows_from_block_to_block():
    blocks = [b for layer in swin(drop_path_rate=0.3).layers for b in layer.blocks]
    assert [b.drop_path.p for b in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_images_skip_a_branch_each_for_itself_and_the_mean_stays():
    torch.manual_seed(0)
    drop = swin(drop_path_rate=0.25).train().layers[1].blocks[1].drop_path
    x = torch.ones(4000, 3, 2)
    kept = drop(x)
    rows = kept[:, 0, 0]
    assert torch.equal(kept, rows[:, None, None].expand_as(x))
    assert rows.unique().tolist() == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)


def test_it_can_be_built_without_memory():
    with torch.device("meta"):
        model = swin(drop_path_rate=0.3)
    assert {p.device.type for p in model.parameters()} == {"meta"}
