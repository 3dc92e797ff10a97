"""Detections as plain tensors, which every format returns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import nn

__all__ = ["NAMES", "DetectionTensors", "detect"]

NAMES = ("boxes", "classes", "scores", "masks")


class DetectionTensors(NamedTuple):
    """Of one image.

    Attributes:
        boxes: float32 (n, 4), XYXY in pixels of the view.
        classes: int64 (n,).
        scores: float32 (n,).
        masks: float32 (n, 1, 28, 28), probabilities on the boxes; None without masks.
    """

    boxes: torch.Tensor
    classes: torch.Tensor
    scores: torch.Tensor
    masks: torch.Tensor | None = None


@torch.no_grad()
def detect(network: nn.Module, view: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The detections of a network in eval mode, in a way that can be traced.

    Args:
        view: uint8 (C, h, w).

    Returns:
        the fields of :class:`DetectionTensors`, without masks if there are none.
    """
    inputs = [{"image": view}]
    if isinstance(network, GeneralizedRCNN):  # masks stay on their boxes
        found = network.inference(inputs, do_postprocess=False)[0]
    else:
        found = network(inputs)[0]["instances"]
    found = found[found.pred_boxes.nonempty()]
    tensors = found.pred_boxes.tensor.reshape(-1, 4), found.pred_classes, found.scores
    return (*tensors, found.pred_masks) if found.has("pred_masks") else tensors
