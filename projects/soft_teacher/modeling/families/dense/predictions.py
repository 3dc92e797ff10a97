"""What a dense detector predicts for every place."""

from dataclasses import dataclass

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.structures import Boxes

from ..base import Encoded

__all__ = ["Predictions", "background_maps", "predict"]


@dataclass(frozen=True)
class Predictions:
    """The head's output for N images, in float32; a list has an entry per feature level.

    A level has H * W * A anchors, row by row, those of one cell together; all levels have R.

    Attributes:
        anchors: absolute XYXY in the padded image, the same for all images.
        logits: (N, HWA, K).
        deltas: (N, HWA, 4).
        centerness: (N, HWA, 1) logits of an FCOS; None of a RetinaNet.
        shapes: (H, W).
    """

    anchors: list[Boxes]
    logits: list[torch.Tensor]
    deltas: list[torch.Tensor]
    centerness: list[torch.Tensor] | None
    shapes: list[tuple[int, int]]

    def scores(self) -> list[torch.Tensor]:
        """(N, HWA, K) by which detections are ranked, as in an evaluation."""
        if self.centerness is None:
            return [x.sigmoid() for x in self.logits]
        pairs = zip(self.logits, self.centerness)
        return [torch.sqrt(x.sigmoid() * y.sigmoid()) for x, y in pairs]


def predict(network: DenseDetector, encoded: Encoded) -> Predictions:
    """One pass of the head."""
    features = [encoded.features[name] for name in network.head_in_features]
    output = network.head(features)
    found = network._transpose_dense_predictions(output, [network.num_classes, 4, 1][: len(output)])
    logits, deltas, *centerness = [[x.float() for x in levels] for levels in found]
    return Predictions(
        network.anchor_generator(features),
        logits,
        deltas,
        centerness[0] if centerness else None,
        [tuple(f.shape[-2:]) for f in features],
    )


def background_maps(found: Predictions) -> list[torch.Tensor]:
    """(N, H, W) per level, 1 - the highest probability of a class in each cell."""
    return [
        1 - logits.sigmoid().reshape(len(logits), *shape, -1).amax(dim=-1)
        for logits, shape in zip(found.logits, found.shapes)
    ]
