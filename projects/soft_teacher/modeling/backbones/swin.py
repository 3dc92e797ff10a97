"""Detectron2's Swin, whose stochastic depth needs no further package."""

import torch
from detectron2.modeling import SwinTransformer
from torch.overrides import TorchFunctionMode
from torchvision.ops import StochasticDepth

__all__ = ["Swin"]


class Swin(SwinTransformer):
    """SwinTransformer with the same weights; Detectron2 takes stochastic depth from timm."""

    def __init__(self, *, drop_path_rate: float = 0.2, **kwargs):
        """
        Args:
            drop_path_rate: share of the images of a training batch for which the last block is
                skipped; it grows linearly from 0 at the first.
            kwargs: of SwinTransformer.
        """
        with _NumbersOnCPU():
            super().__init__(drop_path_rate=0.0, **kwargs)
        blocks = [block for layer in self.layers for block in layer.blocks]
        for number, block in enumerate(blocks):
            rate = drop_path_rate * number / max(len(blocks) - 1, 1)
            block.drop_path = StochasticDepth(rate, mode="row")


class _NumbersOnCPU(TorchFunctionMode):
    """Inside, a model can be built on the meta device though it reads what linspace returns."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        place = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **place})
