"""Configs that Detectron2 reads without this package."""

import yaml
from detectron2.config import CfgNode, get_cfg

__all__ = ["stock_yaml"]

# The others are about training.
SECTIONS = ("VERSION", "MODEL", "INPUT", "TEST")


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
