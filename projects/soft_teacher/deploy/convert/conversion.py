"""From a checkpoint of mmdetection's kind to a checkpoint, a config and a report."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from ...utils.atomic import atomic_path
from ..stock_config import write_stock_folder
from .architecture import check_tensors, detector_config
from .classes import classes_of
from .layout import Key, chosen, networks_in
from .reading import Foreign, read_foreign
from .report import reasons_of, write_report
from .source_config import SourceConfig

__all__ = ["Conversion", "convert", "write_conversion"]


@dataclass(frozen=True)
class Conversion:
    """A detector, or a student and its teacher, as Detectron2 has them.

    Attributes:
        weights: the state dict, under ``student.`` and ``teacher.`` if there are two networks.
        cfg: Detectron2's own, which this project's tools wrap.
        classes: names, by class number.
        keys: every tensor of the source, in its order.
        left_out: what else is in the file.
    """

    weights: dict[str, torch.Tensor]
    cfg: CfgNode
    classes: list[str]
    keys: list[Key]
    left_out: list[str]


def convert(path: str, *, style: str = "", annotations: str = "", network: str = "") -> Conversion:
    """Converts a checkpoint of microsoft/SoftTeacher, or of a Faster R-CNN of mmdetection 2 or 3.

    Args:
        path: of the checkpoint.
        style: of its ResNet, "caffe" or "pytorch"; empty if its own config says so.
        annotations: the COCO JSON that it was trained on, for classes other than COCO's.
        network: "student" or "teacher" for one of two networks alone.

    Raises:
        ConfigError: the file cannot be read, or is of another kind; the message is the reason.
    """
    source = read_foreign(path)
    with reasons_of(path):
        return _converted(source, style, annotations, network)


def _converted(source: Foreign, style: str, annotations: str, network: str) -> Conversion:
    networks = networks_in(source.weights)
    if network:
        networks = [chosen({one.name: one for one in networks}, network)]
    config = SourceConfig(source.config)
    config.check()
    style = config.style(style)
    cfg = detector_config(
        networks[0].weights,
        style=style,
        pixels=config.pixels(style),
        thresholds=config.thresholds(),
    )
    classes = classes_of(cfg.MODEL.ROI_HEADS.NUM_CLASSES, source.classes, annotations)
    weights: dict[str, torch.Tensor] = {}
    for one in networks:
        check_tensors(cfg, one.weights)
        prefix = f"{one.name}." if len(networks) > 1 else ""
        weights |= {prefix + k: v for k, v in classes.permuted(one.weights).items()}
    keys = [key for one in networks for key in one.keys]
    return Conversion(weights, cfg, classes.names, keys, source.entries)


def write_conversion(conversion: Conversion, folder: str) -> None:
    """Makes a folder: checkpoint, config, classes, and what became of every tensor."""
    with atomic_path(folder) as temporary:
        write_stock_folder(temporary, conversion.cfg, conversion.weights, conversion.classes)
        write_report(temporary, conversion.keys, conversion.left_out)
