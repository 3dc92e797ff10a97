"""A checkpoint and a YAML for Detectron2's own DefaultPredictor, which needs no package of ours."""

import os
from collections.abc import Callable

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    RPN_HEAD_REGISTRY,
)

from ...experiment.yaml_config import value_of
from ...experiment.yaml_experiment import YamlExperiment
from ...utils.errors import ConfigError, ExportError
from ..stock_config import CONFIG, WEIGHTS, write_stock_folder
from .detection_tensors import DetectionTensors, detect
from .source import Source

__all__ = ["check_stock", "write_detectron2"]

ROOM = f"{__name__.partition('.')[0]}.modeling."
# Where a YAML names the parts of a detector.
PARTS = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
}


def write_detectron2(source: Source, view: torch.Tensor, path: str) -> Callable:
    """Makes the folder of :func:`.stock_config.write_stock_folder`.

    Returns:
        the detector of the folder, as DefaultPredictor builds it: a function of a view.

    Raises:
        ConfigError: a part of the detector is none of Detectron2's.
    """
    cfg = stock_config(source.experiment)
    write_stock_folder(path, cfg, source.network.state_dict(), source.classes)
    network = _predictor(path).model
    _check_same_tensors(source.network, network)
    return lambda view: DetectionTensors(*detect(network, view))


def check_stock(experiment) -> None:
    """Raises ConfigError if Detectron2 alone cannot build the detector."""
    stock_config(experiment)


def stock_config(experiment) -> CfgNode:
    """The config of the detector in Detectron2's own parts, with our keys.

    Raises:
        ConfigError: naming the part that is none.
    """
    if not isinstance(experiment, YamlExperiment):
        raise ConfigError(
            "Detectron2's predictor reads YAML, and this detector is described by a LazyConfig: "
            "export it to model.ts, model.onnx or model.safetensors"
        )
    cfg = experiment.cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = cfg.SOFT_TEACHER.DETECTOR
    for key, registry in PARTS.items():
        name = value_of(cfg, key)
        if name in registry:  # else the detector has no such part
            *nodes, last = key.split(".")
            value_of(cfg, ".".join(nodes))[last] = _stock_name(key, name, registry)
    return cfg


def _stock_name(key: str, name: str, registry) -> str:
    """Our own parts detect as those of Detectron2's that they derive from."""
    part = registry.get(name)
    kinds = part.__mro__ if part.__module__.startswith(ROOM) else (part,)
    for kind in kinds:
        if kind.__module__.startswith("detectron2.") and kind.__name__ in registry:
            return kind.__name__
    raise ConfigError(
        f"{key} '{name}' is no part of Detectron2, so that its own predictor cannot build the "
        "detector: export it to model.ts, model.onnx or model.safetensors"
    )


def _predictor(folder: str) -> DefaultPredictor:
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(folder, CONFIG), allow_unsafe=False)
    cfg.MODEL.WEIGHTS = os.path.join(folder, WEIGHTS)
    return DefaultPredictor(cfg)


def _check_same_tensors(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """DetectionCheckpointer only warns of what it does not find."""
    found = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if name not in found or not torch.equal(found.pop(name), value):
            raise ExportError(f"Detectron2 has another tensor {name} in this detector")
    if found:
        raise ExportError(f"Detectron2 has a tensor {next(iter(found))} more in this detector")
