"""One pass of a network over views: plain, augmented, or with the stability of its boxes."""

from collections.abc import Callable, Sequence

import torch
from detectron2.structures import Instances
from torch import nn

from ..data.multi_scale import MultiScale
from ..evaluation.stability import detect_with_variances
from ..modeling.families.base import DetectorFamily
from ..modeling.multi_scale import MultiScaleDetector, check_merges_views
from ..utils.errors import ConfigError

__all__ = ["Detector"]

# Of the jitter, the same for every image, so that variances do not depend on the others.
SEED = 0


class Detector:
    """A network in eval mode, and what is asked of it."""

    def __init__(
        self,
        family: DetectorFamily,
        network: nn.Module,
        *,
        multi_scale: MultiScale | None,
        variances: bool,
    ):
        """
        Args:
            multi_scale: views to look at of whole images; None to look at what is given.
            variances: see :func:`..evaluation.stability.detect_with_variances`.

        Raises:
            ConfigError: the network can do neither of what is asked, or not both.
        """
        if multi_scale is not None and variances:
            raise ConfigError(
                "variances are measured without test-time augmentation: choose one of the two"
            )
        if variances and not family.measures_stability:
            raise ConfigError("the detector cannot measure how stable its boxes are")
        self.device = torch.device(network.device)
        self._family = family
        self._network = network
        if multi_scale is not None:
            check_merges_views(type(family), "tta")
            self._network = MultiScaleDetector(family, network, multi_scale)
        self._variances = variances

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
        return [output["instances"].to("cpu") for output in self._network(list(views))]
