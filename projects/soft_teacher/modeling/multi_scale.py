"""Multi-scale tests: one list of detections from several views of an image."""

import numpy as np
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from ..data.multi_scale import MultiScale, View
from ..geometry import clip_boxes, transform_boxes
from ..utils.errors import ConfigError
from .families.base import Candidates, DetectorFamily, Encoded, MergesViews

__all__ = ["MultiScaleDetector", "check_merges_views", "contribution", "joined"]


def check_merges_views(family: type[DetectorFamily], key: str) -> None:
    """Raises ConfigError, naming ``key``, for a detector whose views cannot be merged."""
    if not issubclass(family, MergesViews):
        raise ConfigError(
            f"{key} merges views before NMS, which is not supported for a {family.detectors[0]}: "
            "switch it off"
        )


def contribution(found: Candidates, view: View, frame: View) -> Candidates:
    """The candidates of a view in the frame of another view; what it may not contribute scores 0.

    The size of a box is that of its part inside the view.
    """
    boxes = _moved(found.boxes, view, frame)
    if view.box_sizes is None:
        return Candidates(boxes, found.scores)
    shown = Boxes(clip_boxes(found.boxes.reshape(-1, 4), view.size))
    sides = (shown.area() / abs(np.linalg.det(view.matrix[:2, :2]))).sqrt()
    low, high = view.box_sizes
    fits = ((low <= sides) & (sides < high)).reshape(len(boxes), boxes.shape[1] // 4)
    scores = found.scores[:, :-1].where(fits, 0)
    return Candidates(boxes, torch.cat([scores, found.scores[:, -1:]], dim=1))


def joined(parts: list[Candidates]) -> Candidates:
    """The candidates of all parts, in their order."""
    return Candidates(torch.cat([p.boxes for p in parts]), torch.cat([p.scores for p in parts]))


class MultiScaleDetector(nn.Module):
    """A network that looks at several views of each image, called as the network itself.

    All views contribute candidates, among which the network's post-processing chooses once. It
    works in the frame of the first view, so that a single view is an evaluation to the bit. Masks
    of the detections are predicted in every view, and averaged on the boxes, which is the same as
    in the pixels of the image. The features of one view are held at a time: with masks, all but
    the last are encoded twice.
    """

    def __init__(self, family: MergesViews, network: nn.Module, multi_scale: MultiScale):
        """
        Args:
            network: of the family, in eval mode; see :func:`check_merges_views`.
        """
        super().__init__()
        self.network = network
        self.training = network.training
        self._family = family
        self._multi_scale = multi_scale

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """
        Args:
            batched_inputs: images as they are (:meth:`.InferenceMapper.whole`).

        Returns:
            per image, ``instances`` in pixels of its ``height`` and ``width``.
        """
        return [{"instances": self._detect(sample)} for sample in batched_inputs]

    def _detect(self, sample: dict) -> Instances:
        image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
        frame, last = self._multi_scale.view(image, 0), len(self._multi_scale) - 1
        parts = [self._contribution(*self._seen(image, n), frame) for n in range(last)]
        seen = self._seen(image, last)
        parts.append(self._contribution(*seen, frame))
        found = self._family.select(self.network, joined(parts), frame.size)
        if self._family.has_masks(self.network):
            masks = self._masks(*seen, found, frame)
            del seen
            others = range(last) if len(found) else []
            for n in others:
                masks = masks + self._masks(*self._seen(image, n), found, frame)
            found.pred_masks = masks / (1 + len(others))
        height, width = image.shape[:2]
        return detector_postprocess(found, sample.get("height", height), sample.get("width", width))

    def _seen(self, image: np.ndarray, number: int) -> tuple[View, Encoded]:
        view = self._multi_scale.view(image, number)
        return view, self._family.encode_views(self.network, [view.image])

    def _contribution(self, view: View, encoded: Encoded, frame: View) -> Candidates:
        (found,) = self._family.candidates(self.network, encoded)
        return contribution(found, view, frame)

    def _masks(self, view: View, encoded: Encoded, found: Instances, frame: View) -> torch.Tensor:
        """(n, 1, M, M) probabilities on the boxes of detections of ``frame``, upright."""
        boxes = Boxes(_moved(found.pred_boxes.tensor, frame, view))
        shown = Instances(view.size, pred_boxes=boxes, pred_classes=found.pred_classes)
        (shown,) = self._family.add_masks(self.network, encoded, [shown])
        return shown.pred_masks.flip(3) if view.is_mirrored else shown.pred_masks


def _moved(boxes: torch.Tensor, source: View, target: View) -> torch.Tensor:
    """(n, 4 K) boxes of a view in the frame of another; with the same matrix, to the bit."""
    matrix = torch.as_tensor(target.matrix @ np.linalg.inv(source.matrix))
    return transform_boxes(boxes.reshape(-1, 4), matrix).reshape(boxes.shape)
