"""Detections of an evaluation together with how stable their boxes are."""

from collections.abc import Callable, Sequence

import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import nn

from ..modeling.families.base import DetectorFamily, MeasuresStability
from ..modeling.pseudo_labels import rows_where

__all__ = ["detect_with_variances"]


@torch.no_grad()
def detect_with_variances(
    family: DetectorFamily,
    detector: nn.Module,
    samples: Sequence[dict],
    measured: Callable[[Instances], torch.Tensor] | None,
    seeds: Sequence[int],
) -> list[Instances]:
    """Detects as an evaluation does, and measures the boxes in the same pass (Eq. 7-9).

    Args:
        detector: a network in eval mode.
        samples: views with ``image``, ``height`` and ``width``
            (:class:`~soft_teacher.data.mapper.InferenceMapper`).
        measured: detections of an image -> (n,) bool, boxes to measure; None for no box.
        seeds: per image, of the jitter.

    Returns:
        per image, Instances on the CPU in absolute pixels of the image (``height``, ``width``),
        with ``variances`` (float32), which are NaN where a box was not measured.
    """
    seen = family.teach(detector, [sample["image"] for sample in samples], as_evaluated=True)
    for found in seen.detections:
        found.variances = torch.full_like(found.scores, float("nan"), dtype=torch.float32)
    if measured is not None and isinstance(seen, MeasuresStability):
        rows = rows_where([measured(found) for found in seen.detections])
        for found, r, values in zip(seen.detections, rows, seen.variances(rows, list(seeds))):
            found.variances[r] = values.float()
    return [
        detector_postprocess(found, sample["height"], sample["width"]).to("cpu")
        for found, sample in zip(seen.detections, samples)
    ]
