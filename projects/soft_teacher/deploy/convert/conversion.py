"""From a checkpoint of mmdetection's kind to a checkpoint, a config and a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from ...utils.atomic import atomic_path
from ...utils.errors import ConfigError
from ..stock_config import write_stock_folder
from .architecture import check_tensors, detector_config
from .classes import classes_of
from .layout import Key, Network, networks_in
from .reading import Foreign, read_foreign
from .source_config import SourceConfig

__all__ = ["REPORT", "Conversion", "convert", "write_conversion"]

REPORT = "keys.tsv"


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
    try:
        return _converted(source, style, annotations, network)
    except ConfigError as error:
        text = str(error)
        own = text.startswith("--")
        raise ConfigError(text if own else f"checkpoint '{path}' cannot be converted: {text}")


def _converted(source: Foreign, style: str, annotations: str, network: str) -> Conversion:
    networks = _chosen(networks_in(source.weights), network)
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


def _chosen(networks: Sequence[Network], name: str) -> list[Network]:
    if not name:
        return list(networks)
    found = [network for network in networks if network.name == name]
    if not found:
        raise ConfigError(f"--network {name}: the checkpoint holds no {name}")
    return found


def write_conversion(conversion: Conversion, folder: str) -> None:
    """Makes a folder: checkpoint, config, classes, and what became of every tensor."""
    with atomic_path(folder) as temporary:
        write_stock_folder(temporary, conversion.cfg, conversion.weights, conversion.classes)
        with open(os.path.join(temporary, REPORT), "w", encoding="utf-8") as file:
            file.write(report(conversion))


def report(conversion: Conversion) -> str:
    """A line for every tensor, and for what else was in the file."""
    lines = [
        f"{k.source}\t{'converted' if k.target else 'dropped'}\t{k.target}" for k in conversion.keys
    ]
    lines += [f"{name}\tleft out\t" for name in conversion.left_out]
    return "\n".join(["source\twhat became of it\tdetectron2", *lines, ""])
