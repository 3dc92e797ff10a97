"""The number of positives that divides the losses of a dense detector, for each stream."""

import torch
from torch import nn

__all__ = ["LABELED", "UNLABELED", "LossNormalizers"]

LABELED, UNLABELED = 0, 1
MOMENTUM = 0.9


class LossNormalizers(nn.Module):
    """Running means of the positive places of an image, of labeled and of unlabeled images.

    Detectron2 keeps one such number as an attribute of the network: both streams would share it,
    ranks and micro-batches would each move it, and no checkpoint holds it. Here what a step finds
    waits in ``pending`` until :class:`.PendingHook` has added that of all ranks and micro-batches;
    the step itself is divided by the numbers from before it. Steps without pseudo boxes leave the
    number of the unlabeled images alone: it would fall to 1 while the teacher finds nothing, and
    their backgrounds would outweigh everything else.
    """

    def __init__(self, initial: float):
        """
        Args:
            initial: positives of an image before any is seen.
        """
        super().__init__()
        values = torch.full((2,), float(initial), dtype=torch.float64)
        self.register_buffer("values", values, persistent=False)
        # For each stream: positives, images, boxes.
        pending = torch.zeros(2, 3, dtype=torch.int64)
        self.register_buffer("pending", pending, persistent=False)

    def of(self, stream: int, images: int) -> torch.Tensor:
        """Positives that so many images have by now, a float32 scalar."""
        return (self.values[stream] * images).float()

    @torch.no_grad()
    def count(self, stream: int, positive: torch.Tensor, boxes: int) -> None:
        """Adds to what is pending.

        Args:
            positive: (N, R) bool.
            boxes: in all N images.
        """
        counted = self.pending[stream]
        counted[0] += positive.sum()
        counted[1] += len(positive)
        counted[2] += boxes

    @torch.no_grad()
    def update(self) -> None:
        """New means from what is pending, which by now is that of all ranks."""
        positives, images, boxes = self.pending.unbind(dim=1)
        found = (positives.double() / images.clamp(min=1)).clamp(min=1)
        learned = torch.stack([images[LABELED], boxes[UNLABELED]]) > 0
        new = self.values * MOMENTUM + found * (1 - MOMENTUM)
        self.values.copy_(new.where(learned, self.values))
        self.pending.zero_()

    def totals(self) -> dict[str, torch.Tensor]:
        """The state by name, what is pending apart."""
        return {"values": self.values}

    def scalars(self) -> dict[str, float]:
        """For the log, at the cost of a host-device sync."""
        return dict(zip(("sup/normalizer", "unsup/normalizer"), self.values.tolist()))
