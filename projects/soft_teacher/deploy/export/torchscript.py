"""TorchScript: runs in PyTorch and in C++, needs torchvision's operators."""

from collections.abc import Callable

import torch

from .detection_tensors import DetectionTensors
from .source import Source
from .traced import adapter_of, quiet

__all__ = ["write_torchscript"]


def write_torchscript(source: Source, view: torch.Tensor, path: str) -> Callable:
    """Writes a file whose extra files are :meth:`.Source.metadata`.

    Args:
        view: to trace with.

    Returns:
        the detector of the file: a function of a view.
    """
    with quiet():
        traced = torch.jit.trace(adapter_of(source, view), (view,), check_trace=False)
        torch.jit.save(traced, path, _extra_files=source.metadata())
        loaded = torch.jit.load(path)

    def run(view: torch.Tensor) -> DetectionTensors:
        with quiet(), torch.no_grad():
            return DetectionTensors(*loaded(view))

    return run
