"""A mask head that passes its features on to the head of the next stage."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from fvcore.nn.weight_init import c2_msra_fill
from torch import nn
from torch.nn import functional as F

__all__ = ["HTCMaskHead", "refined_features"]


class HTCMaskHead(MaskRCNNConvUpsampleHead):
    """The mask head of Mask R-CNN; those of later stages have ``conv_res`` as well.

    That is the 1x1 convolution through which features of the stage before come in.
    """

    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        receives: bool,
        **kwargs,
    ):
        """
        Args:
            input_shape: of RoI features.
            num_classes: 1 for class-agnostic masks.
            conv_dims: widths of the 3x3 convolutions and, last, of the upsampling layer.
            receives: the head comes after another.
            kwargs: of MaskRCNNConvUpsampleHead.
        """
        super().__init__(input_shape, num_classes=num_classes, conv_dims=conv_dims, **kwargs)
        if receives:
            channels = input_shape.channels
            self.conv_res = Conv2d(conv_dims[-2], channels, kernel_size=1, activation=nn.ReLU())
            c2_msra_fill(self.conv_res)

    def refine(self, x: torch.Tensor, last: torch.Tensor | None = None) -> torch.Tensor:
        """Features of this stage.

        Args:
            x: (n, C, h, w) RoI features.
            last: what the stage before made of the same RoI features.
        """
        if last is not None:
            x = x + self.conv_res(last)
        for layer in self.conv_norm_relus:
            x = layer(x)
        return x

    def predict(self, refined: torch.Tensor) -> torch.Tensor:
        """(n, K, 2h, 2w) mask logits from what :meth:`refine` returned."""
        return self.predictor(F.relu(self.deconv(refined)))

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        return self.predict(self.refine(x))


def refined_features(heads: Iterable[HTCMaskHead], x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Features of one stage after the other on the same RoIs.

    Mask information flow: with x_0 = x and x_i = x + ReLU(conv_res_i(m_{i-1})), m_i is what the
    convolutions of head i make of x_i. Nothing is detached, so that the loss of a stage trains
    those before it, too.

    Args:
        heads: of the first stages.
        x: (n, C, h, w) RoI features.

    Yields:
        m_i, for each head.
    """
    refined = None
    for head in heads:
        refined = head.refine(x, refined)
        yield refined
