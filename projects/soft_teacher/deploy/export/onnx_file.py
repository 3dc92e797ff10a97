"""ONNX: runs in onnxruntime."""

from collections.abc import Callable

import torch

from ...utils.checks import Number
from ...utils.errors import ConfigError
from .detection_tensors import NAMES, DetectionTensors
from .source import Source
from .traced import adapter_of, quiet

__all__ = ["OPSET", "check_opset", "write_onnx"]

OPSET = 17
# Before 16, as in Detectron2's STABLE_ONNX_OPSET_VERSION, RoIAlign cannot be aligned.
LOWEST, HIGHEST = 16, 20


def check_opset(opset: int) -> None:
    """Raises ConfigError for a version of ONNX's operators that would be wrong or is unknown."""
    if opset < LOWEST:
        raise ConfigError(
            f"--opset {opset} cannot align RoIAlign, so that detections would be silently wrong: "
            f"use {OPSET}"
        )
    Number(LOWEST, HIGHEST, whole=True)("--opset", opset)


def write_onnx(source: Source, view: torch.Tensor, path: str, opset: int = OPSET) -> Callable:
    """Writes a file whose metadata are :meth:`.Source.metadata`.

    Args:
        view: to trace with.

    Returns:
        the detector of the file in onnxruntime: a function of a view.

    Raises:
        ConfigError: for an opset that is refused.
    """
    check_opset(opset)
    import onnx
    import onnxruntime

    adapter = adapter_of(source, view)
    names = NAMES[: len(adapter(view))]
    with quiet():
        # The exporter that is the default since torch 2.9 stops at sizes that depend on data.
        torch.onnx.export(
            adapter,
            (view,),
            path,
            opset_version=opset,
            dynamo=False,
            input_names=["image"],
            output_names=list(names),
            dynamic_axes={
                "image": {1: "height", 2: "width"},
                **{name: {0: "detections"} for name in names},
            },
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, source.metadata())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(view: torch.Tensor) -> DetectionTensors:
        return DetectionTensors(*map(torch.from_numpy, session.run(None, {"image": view.numpy()})))

    return run
