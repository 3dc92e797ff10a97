"""Detectron2's Swin, whose stochastic depth needs no further package, with two options."""

from functools import partial

import torch
from detectron2.modeling import SwinTransformer
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from ...utils.errors import ConfigError

__all__ = ["Swin"]


class Swin(SwinTransformer):
    """SwinTransformer with the same weights; Detectron2 takes stochastic depth from timm."""

    def __init__(
        self,
        *,
        drop_path_rate: float = 0.2,
        use_checkpoint: bool = False,
        global_attention: nn.Module | None = None,
        **kwargs,
    ):
        """
        Args:
            drop_path_rate: share of the images of a training batch for which the last block is
                skipped; it grows linearly from 0 at the first.
            use_checkpoint: keep the inputs of blocks alone for the backward pass, which computes
                the rest again: less memory, and about a third more time.
            global_attention: a :class:`.GlobalAttention` on what the last stage returns; None for
                none.
            kwargs: of SwinTransformer.
        """
        with _NumbersOnCPU():
            super().__init__(drop_path_rate=0.0, **kwargs)
        if global_attention is not None and self.num_layers - 1 not in self.out_indices:
            raise ConfigError("Swin.global_attention needs the last stage among Swin.out_indices")
        self.global_attention = global_attention
        blocks = [block for layer in self.layers for block in layer.blocks]
        for number, block in enumerate(blocks):
            rate = drop_path_rate * number / max(len(blocks) - 1, 1)
            block.drop_path = StochasticDepth(rate, mode="row")
            if use_checkpoint:
                block.forward = partial(_recomputed, block, block.forward)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """See SwinTransformer."""
        features = super().forward(x)
        if self.global_attention is not None:
            last = f"p{self.num_layers - 1}"
            features[last] = self.global_attention(features[last])
        return features


def _recomputed(block, forward, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What a block makes of x, to be computed again by the backward pass.

    Detectron2's own option keeps the size of the map in the block, where a second batch before the
    backward pass replaces it.
    """
    if not torch.is_grad_enabled():
        return forward(x, mask)
    size = block.H, block.W

    def run(x, mask):
        block.H, block.W = size
        return forward(x, mask)

    return checkpoint(run, x, mask, use_reentrant=False)


class _NumbersOnCPU(TorchFunctionMode):
    """Inside, a model can be built on the meta device though it reads what linspace returns."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        place = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **place})
