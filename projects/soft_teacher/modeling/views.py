"""Boxes and masks between the weak and the strong view of an image."""

import torch
from detectron2.structures import Boxes, Instances

from ..geometry import clip_boxes, invert_affine, transform_boxes
from .mask_transport import TransportedMasks

__all__ = ["ViewTransport"]


class ViewTransport:
    """Warps boxes (absolute XYXY) of a batch from the weak to the strong views and back, and masks.

    A box becomes the one that encloses it in the other view, clipped to that view; one outside
    the view is empty.

    Attributes:
        weak_sizes, strong_sizes: per image, (height, width).
        scales: (n,) by how much the strong view enlarges what the weak one shows.
    """

    def __init__(
        self,
        weak_to_strong: torch.Tensor,
        weak_sizes: list[tuple[int, int]],
        strong_sizes: list[tuple[int, int]],
        device: torch.device,
    ):
        """
        Args:
            weak_to_strong: (n, 3, 3), one matrix per image, absolute pixels, on the CPU.
            device: of the boxes.
        """
        self._to_strong = weak_to_strong.to(device, non_blocking=True)
        self._to_weak = invert_affine(weak_to_strong).to(device, non_blocking=True)
        areas = torch.linalg.det(weak_to_strong[:, :2, :2]).abs()
        self.scales = areas.sqrt().to(device, non_blocking=True)
        self.weak_sizes = weak_sizes
        self.strong_sizes = strong_sizes

    @classmethod
    def of(cls, unlabeled: list[dict], device: torch.device) -> "ViewTransport":
        """That of one or more unlabeled samples."""
        return cls(
            torch.stack([x["weak_to_strong"] for x in unlabeled]),
            [tuple(x["weak_image"].shape[1:]) for x in unlabeled],
            [tuple(x["image"].shape[1:]) for x in unlabeled],
            device,
        )

    def to_strong(self, boxes: list[Boxes]) -> list[Boxes]:
        """Per image, (n, 4) boxes of the weak view in the strong one."""
        return _warped(boxes, self._to_strong, self.strong_sizes)

    def to_weak(self, boxes: list[Boxes]) -> list[Boxes]:
        """Per image, (n, 4) boxes of the strong view in the weak one."""
        return _warped(boxes, self._to_weak, self.weak_sizes)

    def masks(self, detections: list[Instances]) -> list[TransportedMasks | None]:
        """Per image, the masks of the weak view's detections, to be cropped in the strong one.

        Args:
            detections: with ``pred_boxes`` and ``pred_masks``, (n, 1, M, M) probabilities on them.

        Returns:
            None for an image without ``pred_masks``.
        """
        return [
            (
                TransportedMasks(d.pred_masks[:, 0], d.pred_boxes.tensor, matrix)
                if d.has("pred_masks")
                else None
            )
            for d, matrix in zip(detections, self._to_weak)
        ]


def _warped(boxes: list[Boxes], matrices: torch.Tensor, sizes: list[tuple]) -> list[Boxes]:
    return [
        Boxes(clip_boxes(transform_boxes(b.tensor, matrix), size))
        for b, matrix, size in zip(boxes, matrices, sizes)
    ]
