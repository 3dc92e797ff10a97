"""Foreign checkpoints, read without importing or running what they are made of."""

from __future__ import annotations

import pickle
import re
import sys
from _compat_pickle import IMPORT_MAPPING as PYTHON_2
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from ...engine.weights_file import BrokenCheckpoint, UnusableFile, plain_reason, read_checked
from ...utils.checks import check_file
from ...utils.errors import ConfigError

__all__ = ["Foreign", "read_foreign"]

UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
# Of the standard library, what may stand in a file of numbers; all else of it could only do harm.
HARMLESS = re.compile(r"builtins\.getattr|(collections|datetime|pathlib)\..*|argparse\.Namespace")


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of mmdetection's kind.

    Attributes:
        weights: its state dict.
        config: the text of the config in it, a Python program; empty if there is none.
        classes: names of the classes that it says it was trained on, in no reliable order.
        entries: what else is in it.
    """

    weights: Mapping[str, torch.Tensor]
    config: str
    classes: list[str]
    entries: list[str]


class Inert:
    """What an object of a foreign class becomes: it takes anything, does and keeps nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        """Ignores what the object was made of."""

    def __setstate__(self, state):
        """Ignores what the object had become."""


def read_foreign(path: str, *, any_layout: bool = False) -> Foreign:
    """Reads a file of torch.save, of the present or the legacy format.

    Args:
        any_layout: read weights that are under "model", too, as in Swin's own files and
            Detectron2's.

    Raises:
        ConfigError: it is missing or damaged, holds no finite weights, or would run code.
    """
    check_file("checkpoint", path)
    try:
        content = read_checked(path, partial(_read, any_layout=any_layout))
    except UnusableFile as error:
        raise ConfigError(f"checkpoint '{path}' {error}") from error
    except Exception as error:  # a file holds anything, and its readers raise many kinds
        raise ConfigError(f"checkpoint '{path}' cannot be read: {plain_reason(error)}") from error
    meta = content["rest"].get("meta")
    meta = meta if isinstance(meta, dict) else {}
    return Foreign(
        weights=content["model"],
        config=next((meta[k] for k in ("config", "cfg") if isinstance(meta.get(k), str)), ""),
        classes=_classes(meta),
        entries=sorted(map(str, content["rest"])),
    )


def _read(path: str, *, any_layout: bool) -> dict:
    content = _load(path)
    if not isinstance(content, dict):
        raise BrokenCheckpoint("holds no weights")
    key = next((key for key in ("state_dict", "model") if key in content), None)
    if key == "model" and not any_layout:
        raise UnusableFile(
            "is Detectron2's already, or of an unknown layout: it has a 'model', which "
            "--config-file can take"
        )
    if key is None:
        return {"model": content, "rest": {}}
    rest = {name: value for name, value in content.items() if name != key}
    return {"model": content[key], "rest": rest}


def _load(path: str):
    """What torch.load makes of a file with foreign classes inert.

    Their names are learned by trying: torch lists them for the present format alone.
    """
    stubs: list[tuple[type, str]] = []
    while True:
        try:
            with torch.serialization.safe_globals(stubs):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = UNKNOWN.search(str(error))
            name = found[1] if found else ""
            name = name if "." in name else f"builtins.{name}"  # torch leaves that out
            if not found or (Inert, name) in stubs:
                raise
            _check_harmless(name)
            stubs.append((Inert, name))


def _check_harmless(name: str) -> None:
    root = name.partition(".")[0]
    module = PYTHON_2.get(root, root)  # pickles of protocol 2 have the names of that time
    if module.partition(".")[0] in sys.stdlib_module_names and not HARMLESS.fullmatch(name):
        raise BrokenCheckpoint(f"would run {name} if it were unpickled, which no checkpoint needs")


def _classes(meta: dict) -> list[str]:
    """mmdetection 2 and 3 keep them in different places."""
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, dict) else {}
    found = meta.get("CLASSES") or dataset.get("classes") or dataset.get("CLASSES") or ()
    is_list = isinstance(found, (list, tuple)) and all(isinstance(name, str) for name in found)
    return list(found) if is_list else []
