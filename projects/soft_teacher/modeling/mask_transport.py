"""The teacher's masks of the weak view, cropped to boxes of the strong view."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from ..geometry import transform_points

__all__ = ["TransportedMasks"]

FOREGROUND = 0.5


@dataclass(frozen=True)
class TransportedMasks:
    """Ground-truth masks of a strong view that are sampled only where somebody crops them.

    A mask is a grid of probabilities over its box in the weak view, as a mask head predicts it. It
    takes the place of Detectron2's ``BitMasks`` in ``gt_masks``, without a bitmap of image size.

    Attributes:
        probabilities: (n, M, M).
        boxes: (n, 4) that they lie on, weak view, absolute XYXY.
        to_weak: (3, 3) matrix from the strong to the weak view, absolute pixels.
        soft: whether crops are the probabilities, or whether these are at least 0.5.
    """

    probabilities: torch.Tensor
    boxes: torch.Tensor
    to_weak: torch.Tensor
    soft: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, item: slice | torch.Tensor) -> TransportedMasks:
        """Those of some rows: a slice, int64 rows or a bool mask."""
        return replace(self, probabilities=self.probabilities[item], boxes=self.boxes[item])

    @property
    def device(self) -> torch.device:
        return self.boxes.device

    def to(self, *args, **kwargs) -> TransportedMasks:
        """Moves all tensors, see ``torch.Tensor.to``."""
        names = ("probabilities", "boxes", "to_weak")
        return replace(self, **{name: getattr(self, name).to(*args, **kwargs) for name in names})

    def softened(self) -> TransportedMasks:
        """The same masks, whose crops are probabilities."""
        return replace(self, soft=True)

    def crop_and_resize(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """Each mask on a grid over its own box, as ``BitMasks.crop_and_resize``.

        Args:
            boxes: (n, 4), strong view, absolute XYXY.
            size: side of the grid.

        Returns:
            (n, size, size) bool, or float32 if ``soft``.
        """
        return self.targets(self.sample(boxes, size))

    def targets(self, probabilities: torch.Tensor) -> torch.Tensor:
        """What is learned of sampled probabilities: these, or bool as they are at least 0.5."""
        return probabilities if self.soft else probabilities >= FOREGROUND

    @torch.no_grad()
    def sample(self, boxes: torch.Tensor, size: int) -> torch.Tensor:
        """The probabilities at the pixel centers of a grid over each box.

        Bilinear inside the box that a mask lies on, 0 outside. No host-device sync.

        Args:
            boxes, size: see :meth:`crop_and_resize`.

        Returns:
            (n, size, size) float32.
        """
        points = transform_points(_centers(boxes.float(), size), self.to_weak)
        low, high = self.boxes.float()[:, None, None].chunk(2, dim=-1)
        places = (points - low) / (high - low) * 2 - 1  # from -1 to 1 across the box
        sampled = F.grid_sample(
            self.probabilities[:, None].float(), places, padding_mode="border", align_corners=False
        )
        inside = (places.abs() <= 1).all(dim=-1)
        return sampled[:, 0].where(inside, 0.0)


def _centers(boxes: torch.Tensor, size: int) -> torch.Tensor:
    """(n, size, size, 2) XY of the pixel centers of a grid over each of (n, 4) boxes."""
    steps = (torch.arange(size, device=boxes.device) + 0.5) / size
    low, high = boxes[:, None].chunk(2, dim=-1)
    x, y = (low + steps[:, None] * (high - low)).unbind(dim=-1)
    x, y = torch.broadcast_tensors(x[:, None, :], y[:, :, None])
    return torch.stack([x, y], dim=-1)
