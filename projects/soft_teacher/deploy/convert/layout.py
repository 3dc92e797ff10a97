"""What a checkpoint holds: one network or two, of a layout that can be converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from ...utils.errors import ConfigError
from .rules import is_dropped, renamed

__all__ = ["Key", "Network", "chosen", "named_in_short", "networks_in", "split"]

T = TypeVar("T")

PREFIXES = ("student", "teacher")
HEAD = "roi_head.bbox_head."


@dataclass(frozen=True)
class Key:
    """What became of a tensor: its new name; without one it is dropped.

    Attributes:
        note: what a report says of it.
    """

    source: str
    target: str = ""
    note: str = ""

    @property
    def fate(self) -> str:
        return self.note or ("converted" if self.target else "dropped")


@dataclass(frozen=True)
class Network:
    """One of the networks in a file.

    Attributes:
        name: "student", "teacher", or "" if it is alone.
        weights: by Detectron2's names.
        keys: every tensor of the file that belongs to it.
    """

    name: str
    weights: dict[str, torch.Tensor]
    keys: list[Key]


def networks_in(weights: Mapping[str, torch.Tensor]) -> list[Network]:
    """The networks of a state dict.

    Raises:
        ConfigError: they are of a layout that is not converted; the message is the reason.
    """
    parts = split(weights)
    for part in parts.values():
        _check_layout(part)
    return [_network(name, part) for name, part in parts.items()]


def split(weights: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of "student" and "teacher" without that prefix; of "" if there is but one network.

    Raises:
        ConfigError: there are other tensors beside them, or the two differ in their names.
    """
    if any(name.startswith("ema_model.") for name in weights):
        raise ConfigError(
            "its teacher is under 'ema_model.', as LabelMatch keeps it, whose boxes are "
            "class-agnostic: Detectron2's predictor of this project has boxes for each class"
        )
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in weights.items():
        prefix, _, rest = name.partition(".")
        own = prefix in PREFIXES
        parts.setdefault(prefix if own else "", {})[rest if own else name] = value
    if "" in parts and len(parts) > 1:
        raise _unknown(parts[""])
    if len({frozenset(part) for part in parts.values()}) > 1:
        raise ConfigError("its student and its teacher have different tensors")
    return parts


def chosen(networks: Mapping[str, T], name: str) -> T:
    """The network of --network. Raises ConfigError if there is no such network."""
    if name not in networks:
        raise ConfigError(f"--network {name}: the checkpoint holds no {name}")
    return networks[name]


def _network(name: str, weights: Mapping[str, torch.Tensor]) -> Network:
    prefix = f"{name}." if name else ""
    targets = {key: renamed(key) or "" for key in weights}
    return Network(
        name,
        {target: weights[key] for key, target in targets.items() if target},
        [Key(prefix + key, prefix + target if target else "") for key, target in targets.items()],
    )


def _check_layout(weights: Mapping[str, torch.Tensor]) -> None:
    if not any(name.startswith(HEAD) for name in weights):
        raise ConfigError(
            f"it has no '{HEAD}*', so that it is no Faster R-CNN of mmdetection 2 or 3, but has "
            f"{named_in_short(weights)}"
        )
    unknown = [name for name in weights if not (renamed(name) or is_dropped(name))]
    _check_neck(weights)
    if unknown:
        raise _unknown(unknown)
    _check_predictor(weights)


def _check_neck(weights: Mapping[str, torch.Tensor]) -> None:
    laterals = len([n for n in weights if n.startswith("neck.lateral_convs.") and _is_weight(n)])
    outputs = len([n for n in weights if n.startswith("neck.fpn_convs.") and _is_weight(n)])
    if (laterals, outputs) != (4, 4):
        raise ConfigError(
            f"its neck has {laterals} lateral and {outputs} output convolutions: only P2 to P6, "
            "with 4 and 4, is converted (PseCo and RetinaNets have P3 to P7)"
        )


def _check_predictor(weights: Mapping[str, torch.Tensor]) -> None:
    scores, boxes = (len(weights.get(f"{HEAD}{name}.weight", ())) for name in ("fc_cls", "fc_reg"))
    if boxes == 4 * scores:
        raise ConfigError(
            f"its {scores} scores are sigmoids without background, as PseCo's: only softmax with "
            "background is converted"
        )
    if boxes == 4 != 4 * (scores - 1):
        raise ConfigError(
            f"its boxes are class-agnostic (4 rows for {scores} scores), as LabelMatch's: only "
            "boxes for each class are converted"
        )
    if boxes != 4 * (scores - 1) or not boxes:
        raise ConfigError(f"it has {scores} rows of scores and {boxes} of boxes, which do not fit")


def _is_weight(name: str) -> bool:
    return name.endswith("conv.weight")


def _unknown(names: Iterable[str]) -> ConfigError:
    return ConfigError(f"it has tensors of an unknown layout: {named_in_short(names)}")


def named_in_short(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    listed: Sequence[str] = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(f"'{name}'" for name in listed[:most]) + more
