"""One pass of a network over views: plain, augmented, or with the stability of its boxes."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.structures import Instances
from torch import nn

from ..data.mapper import InferenceMapper
from ..evaluation.stability import detect_with_variances
from ..modeling.families.base import DetectorFamily
from ..utils.errors import ConfigError
from .tta import with_tta

__all__ = ["Detector"]

# Of the jitter, the same for every image, so that variances do not depend on the others.
SEED = 0


class Detector:
    """A network in eval mode, and what is asked of it."""

    def __init__(
        self, family: DetectorFamily, network: nn.Module, *, cfg, tta: bool, variances: bool
    ):
        """
        Args:
            cfg: of the run, for test-time augmentation.
            tta: see :func:`.tta.with_tta`.
            variances: see :func:`..evaluation.stability.detect_with_variances`.

        Raises:
            ConfigError: the network can do neither of what is asked, or not both.
        """
        if tta and variances:
            raise ConfigError(
                "variances are measured without test-time augmentation: choose one of the two"
            )
        if variances and not family.measures_stability:
            raise ConfigError("the detector cannot measure how stable its boxes are")
        self.device = torch.device(network.device)
        self._family = family
        self._network = network
        self._augmented = with_tta(network, cfg) if tta else None
        self._variances = variances

    def view_of(self, image: np.ndarray, mapper: InferenceMapper) -> dict:
        """What :meth:`__call__` takes of an image, uint8 (H, W, 3)."""
        if self._augmented is None:
            return mapper.view_of(image)
        planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"height": image.shape[0], "width": image.shape[1], "image": planes}

    @torch.no_grad()
    def __call__(
        self, views: Sequence[dict], measured: Callable[[Instances], torch.Tensor]
    ) -> list[Instances]:
        """Detections per view on the CPU, in pixels of its ``height`` and ``width``.

        Args:
            measured: detections of a view -> (n,) bool, those whose variance is wanted.
        """
        if self._variances:
            seeds = [SEED] * len(views)
            return detect_with_variances(self._family, self._network, views, measured, seeds)
        network = self._network if self._augmented is None else self._augmented
        return [output["instances"].to("cpu") for output in network(list(views))]
