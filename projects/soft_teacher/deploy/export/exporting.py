"""Writing a detector in another format, and proving at once that it still does the same."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from ...utils.atomic import atomic_path
from ...utils.environment import naming_broken_packages
from ...utils.errors import ConfigError, ExportError, one_line, place_of
from .agreement import Agreement, compare
from .detection_tensors import DetectionTensors, detect
from .onnx_file import OPSET, check_opset, write_onnx
from .safetensors_file import write_safetensors
from .source import Source
from .stock_detectron2 import check_stock, write_detectron2
from .torchscript import write_torchscript

__all__ = ["FORMATS", "check_output", "export"]

# By the end of the name of the output; a folder has none.
FORMATS = {
    "": write_detectron2,
    ".ts": write_torchscript,
    ".onnx": write_onnx,
    ".safetensors": write_safetensors,
}

# Of the extra "export" of setup.cfg.
PACKAGES = {".onnx": ("onnx", "onnxruntime"), ".safetensors": ("safetensors",)}


def check_output(path: str, experiment, opset: int = OPSET) -> None:
    """What can be known to be wrong before the detector is built.

    Raises:
        ConfigError: the output is of no known format, is there already, or cannot hold the
            detector.
        BrokenPackage: a package that the format needs is missing.
    """
    suffix = Path(path).suffix
    if suffix not in FORMATS:
        raise ConfigError(
            f"--output '{path}' must end in .ts, .onnx or .safetensors, or be a folder, without a "
            "dot, for Detectron2"
        )
    if os.path.isdir(path) and (suffix or os.listdir(path)):
        raise ConfigError(f"--output '{path}' is a folder already: name another")
    if suffix == "":
        if os.path.isfile(path):
            raise ConfigError(f"--output '{path}' is a file, not a folder: name another")
        check_stock(experiment)
    if suffix == ".onnx":
        check_opset(opset)
    with naming_broken_packages():
        for package in PACKAGES.get(suffix, ()):
            importlib.import_module(package)


def export(source: Source, views: Sequence[torch.Tensor], path: str, **settings) -> Agreement:
    """Writes a detector in the format that the path asks for, once it has been compared.

    Args:
        views: to compare on; the first is traced.
        path: ends as in :data:`FORMATS`.
        settings: of the format, ``opset`` of ONNX.

    Raises:
        ExportError: the format cannot hold the detector, or detects something else; nothing is
            left behind.
    """
    write = partial(FORMATS[Path(path).suffix], **settings)
    with atomic_path(path) as temporary:
        with _failures("the detector cannot be exported"):
            run = write(source, views[0], temporary)
        return compared(source, run, views)


@contextmanager
def _failures(what: str):
    """Exporters and runtimes raise many kinds of errors: they become ExportErrors."""
    try:
        yield
    except (ConfigError, ExportError, OSError):
        raise
    except Exception as error:
        raise ExportError(f"{what}: {one_line(error)} ({place_of(error)})") from error


def compared(source: Source, run: Callable, views: Sequence[torch.Tensor]) -> Agreement:
    """How closely a format's detector agrees with the one it comes from.

    Raises:
        ExportError: it does not, or there is nothing to compare.
    """
    total = Agreement()
    for view in views:
        found = DetectionTensors(*detect(source.network, view))
        try:
            with _failures("it fails"):
                theirs = run(view)
            one = compare(found, theirs, floor=source.floor, limit=source.limit)
        except ExportError as error:
            height, width = view.shape[1:]
            raise ExportError(
                f"the exported detector differs on an image of {height} x {width} pixels: {error}; "
                "nothing was written"
            ) from error
        total = total.joined(one)
    if not total.matched:
        raise ConfigError(
            "no sample image has a detection, so that nothing would be compared: name images with "
            "objects by --images"
        )
    return total
