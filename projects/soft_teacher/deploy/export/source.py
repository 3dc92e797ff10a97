"""What is exported: one network of a trained model, and what its users have to know."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from detectron2.data.transforms import NoOpTransform, ResizeShortestEdge
from torch import nn

from ...data.mapper import InferenceMapper
from ...evaluation.evaluate import NETWORKS
from ...experiment.experiment import Experiment
from ...modeling.families.base import DetectorFamily
from ...utils.checks import check_choice
from ...utils.errors import ConfigError
from ..class_names import categories_of

__all__ = ["Source", "source_of"]

# Of Detectron2's detectors, where a LazyConfig leaves it to them.
LIMIT = 100


@dataclass(frozen=True)
class Source:
    """A detector in eval mode on the CPU.

    Attributes:
        experiment: that it was trained by.
        name: "student" or "teacher".
        classes: names, by class number.
        mapper: makes the view that it is evaluated on.
    """

    experiment: Experiment
    network: nn.Module
    name: str
    family: DetectorFamily
    classes: list[str]
    mapper: InferenceMapper

    @property
    def limit(self) -> int:
        """The most detections of an image."""
        found = self.experiment["TEST.DETECTIONS_PER_IMAGE"]
        return LIMIT if found is None else found

    @property
    def floor(self) -> float:
        """The score below which detections are dropped."""
        return self.family.score_floor(self.network)

    def metadata(self) -> dict[str, str]:
        """What travels inside a file, as JSON under a few names.

        ``classes`` lists names by class number. ``view`` says how to make the image that the
        detector takes: ``image_format`` is the order of the channels; the short edge becomes
        ``short_edge`` pixels unless the long one would exceed ``max_size``, by Pillow's bilinear
        filter; 0 leaves the size. ``network`` is "student" or "teacher".
        """
        values = {"classes": self.classes, "view": view_of(self.mapper), "network": self.name}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def source_of(
    experiment: Experiment, network: str, class_file: str = "", weights: str = ""
) -> Source:
    """The network of a config and its weights.

    Args:
        network: "student" or "teacher".
        class_file: with the names of the classes; see :func:`..class_names.categories_of`.
        weights: a checkpoint; empty for the config's.

    Raises:
        ConfigError: naming the key or option and the fix.
    """
    check_choice("--network", network, NETWORKS)
    experiment.set("MODEL.DEVICE", "cpu")
    trained = experiment.load_trained(weights=weights)
    folder = os.path.dirname(trained.weights)
    categories = categories_of(
        experiment, trained.num_classes, given=class_file or None, folders=[folder]
    )
    return Source(
        experiment=experiment,
        network=getattr(trained.model, network).eval(),
        name=network,
        family=trained.model.family,
        classes=[category["name"] for category in categories],
        mapper=trained.mapper,
    )


def view_of(mapper: InferenceMapper) -> dict:
    """How a mapper makes its view, see :meth:`Source.metadata`.

    Raises:
        ConfigError: it does more than resize by the short edge.
    """
    sizes = [_sizes(a) for a in mapper.augmentations.augs]
    if None in sizes or len(sizes) > 1:
        raise ConfigError(
            "the view for evaluation is more than a ResizeShortestEdge of one size, which "
            "exported files cannot describe: evaluate without further augmentations"
        )
    short_edge, max_size = sizes[0] if sizes else (0, 0)
    return {"image_format": mapper.image_format, "short_edge": short_edge, "max_size": max_size}


def _sizes(augmentation) -> tuple[int, int] | None:
    """(short edge, largest long edge); None if the augmentation does something else."""
    if isinstance(augmentation, NoOpTransform):
        return 0, 0
    edges = set(getattr(augmentation, "short_edge_length", ()))
    if not isinstance(augmentation, ResizeShortestEdge) or len(edges) != 1:
        return None
    return edges.pop(), augmentation.max_size
