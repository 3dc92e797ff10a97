"""Self-attention over a whole feature map, which HTC++ has after the last stage of its backbone."""

import torch
from detectron2.modeling.backbone.swin import Mlp
from torch import nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

__all__ = ["GlobalAttention"]


class GlobalAttention(nn.Module):
    """A transformer block whose tokens are all pixels of a feature map, and a norm.

    With y = x + Attention(LN(x)), it is LN(y + MLP(LN(y))). Layers are initialized as those of a
    Swin. Pixels of the padding of a batch take part, as in the windows of a Swin.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.2,
    ):
        """
        Args:
            channels: of the feature map.
            num_heads: of the attention.
            mlp_ratio: width of the hidden layer of the MLP, in ``channels``.
            drop_path_rate: share of the images of a training batch for which the attention is
                skipped, and of those for which the MLP is.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = SelfAttention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio))
        self.final_norm = nn.LayerNorm(channels)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: (N, C, H, W).

        Returns:
            a map of the same shape.
        """
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        tokens = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return self.final_norm(tokens).transpose(1, 2).reshape(x.shape)


class SelfAttention(nn.Module):
    """Attention of all tokens to all, whose weights are not held in memory at once."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, C) to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv)
        return self.proj(mixed.transpose(1, 2).flatten(2))
