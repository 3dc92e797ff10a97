"""Detectron2's test-time augmentation, for the detectors that it knows."""

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, GeneralizedRCNNWithTTA
from torch import nn

from ..utils.errors import ConfigError

__all__ = ["with_tta"]


def with_tta(detector: nn.Module, cfg) -> nn.Module:
    """A detector that looks at several sizes of an image and at its mirror image (``TEST.AUG``).

    Args:
        cfg: of the run, in either language.

    Raises:
        ConfigError: Detectron2 augments a GeneralizedRCNN from a YAML config alone.
    """
    if not isinstance(cfg, CfgNode):
        raise ConfigError(
            "test-time augmentation reads TEST.AUG of a YAML config: a LazyConfig has none"
        )
    if not isinstance(detector, GeneralizedRCNN):
        kind = type(detector).__name__
        raise ConfigError(f"test-time augmentation works for a GeneralizedRCNN, not for a {kind}")
    return GeneralizedRCNNWithTTA(cfg, detector)
