"""Detectors as Detectron2 reads them without this package: a folder, and its config."""

import json
import os
from collections.abc import Mapping, Sequence

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

from ..experiment.class_file import CLASS_FILE

__all__ = ["CONFIG", "WEIGHTS", "stock_yaml", "write_stock_folder"]

CONFIG, WEIGHTS = "config.yaml", "model.pth"

# The others are about training.
SECTIONS = ("VERSION", "MODEL", "INPUT", "TEST")


def write_stock_folder(
    folder: str, cfg: CfgNode, weights: Mapping[str, torch.Tensor], classes: Sequence[str]
) -> None:
    """Makes a folder of a checkpoint, its config, and the names of the classes.

    The checkpoint has those names, too, under ``classes``.
    """
    os.mkdir(folder)
    content = {"model": weights, "classes": classes}
    torch.save(content, os.path.join(folder, WEIGHTS))
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = WEIGHTS
    texts = {CONFIG: stock_yaml(cfg), CLASS_FILE: json.dumps(classes, ensure_ascii=False)}
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


def stock_yaml(cfg: CfgNode) -> str:
    """The YAML of a detector: where a config differs from Detectron2's defaults.

    Keys that Detectron2 does not know are left out, and so is what only concerns training.
    """
    defaults = get_cfg()
    found = {name: _differences(cfg[name], defaults[name]) for name in SECTIONS}
    # Without a version Detectron2 guesses one.
    found = {"VERSION": defaults.VERSION, **{k: v for k, v in found.items() if v not in ({}, None)}}
    return yaml.safe_dump(found, sort_keys=False, default_flow_style=None)


def _differences(value, default):
    """Nested dicts of plain values; None for an equal value."""
    if not isinstance(default, CfgNode):
        return None if value == default else _plain(value)
    nested = {name: _differences(value[name], default[name]) for name in default if name in value}
    return {name: found for name, found in nested.items() if found not in ({}, None)}


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
