"""What a dense detector predicts for every anchor."""

from dataclasses import dataclass

import torch
from detectron2.modeling import RetinaNet
from detectron2.structures import Boxes

from ..base import Encoded

__all__ = ["Predictions", "predict"]


@dataclass(frozen=True)
class Predictions:
    """The head's output for N images, in float32; a list has an entry per feature level.

    A level has H * W * A anchors, row by row, those of one place together; all levels have R.

    Attributes:
        anchors: absolute XYXY in the padded image, the same for all images.
        logits: (N, HWA, K).
        deltas: (N, HWA, 4).
        shapes: (H, W).
    """

    anchors: list[Boxes]
    logits: list[torch.Tensor]
    deltas: list[torch.Tensor]
    shapes: list[tuple[int, int]]


def predict(network: RetinaNet, encoded: Encoded) -> Predictions:
    """One pass of the head."""
    features = [encoded.features[name] for name in network.head_in_features]
    logits, deltas = network._transpose_dense_predictions(
        network.head(features), [network.num_classes, 4]
    )
    return Predictions(
        network.anchor_generator(features),
        [x.float() for x in logits],
        [x.float() for x in deltas],
        [tuple(f.shape[-2:]) for f in features],
    )
