"""Stochastic depth of a Swin."""

import copy
import sys

import pytest
import torch
from detectron2.modeling import SwinTransformer

from soft_teacher.modeling.backbones import swin as swin_module
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


class TestCheckpointing:
    """Blocks are computed again in the backward pass."""

    def gradients(self, batches, seed=3, **kwargs):
        model = swin(drop_path_rate=0.5, **kwargs).train()
        torch.manual_seed(seed)  # of the stochastic depth
        loss = sum(model(batch)["p1"].square().sum() for batch in batches)
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in model.named_parameters()}

    @pytest.mark.parametrize("sizes", [[(32, 40)], [(32, 40), (48, 24)]], ids=str)
    def test_losses_and_gradients_are_the_same(self, sizes):
        batches = [torch.randn(4, 3, *size) for size in sizes]
        loss, kept = self.gradients(batches)
        again, recomputed = self.gradients(batches, use_checkpoint=True)
        assert torch.equal(loss, again)
        for name, grad in kept.items():
            if grad is None:  # norms of a level that the loss does not use
                assert recomputed[name] is None
            else:
                torch.testing.assert_close(recomputed[name], grad)

    def test_less_is_kept(self):
        def kept(**kwargs):
            sizes = []
            model = swin(drop_path_rate=0.0, **kwargs).train()
            hooks = torch.autograd.graph.saved_tensors_hooks(
                lambda x: sizes.append(x.numel()) or x, lambda x: x
            )
            with hooks:
                model(images())
            return sum(sizes)

        assert kept(use_checkpoint=True) < kept() / 2

    def test_a_copy_has_weights_of_its_own(self):
        model = swin(use_checkpoint=True)
        copied = copy.deepcopy(model)
        for parameter in model.parameters():
            parameter.data.zero_()
        assert torch.equal(copied(images())["p1"], swin()(images())["p1"])

    def test_nothing_is_kept_without_gradients(self, monkeypatch):
        monkeypatch.setattr(swin_module, "checkpoint", None)
        with torch.no_grad():
            swin(use_checkpoint=True)(images())
