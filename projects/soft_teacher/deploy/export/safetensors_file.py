"""safetensors: the weights alone, in a format that can hold no code."""

import copy
from collections.abc import Callable

import torch

from .detection_tensors import DetectionTensors, detect
from .source import Source

__all__ = ["write_safetensors"]


def write_safetensors(source: Source, view: torch.Tensor, path: str) -> Callable:
    """Writes the state dict of the network alone; the file's metadata are its metadata.

    Returns:
        a detector with the weights of the file: a function of a view.
    """
    from safetensors.torch import load_file, save

    weights = {k: v.contiguous() for k, v in source.network.state_dict().items()}
    with open(path, "wb") as file:  # its own writer hides the file from other users
        file.write(save(weights, metadata=source.metadata()))
    network = copy.deepcopy(source.network)
    for tensor in network.state_dict().values():
        tensor.zero_()
    network.load_state_dict(load_file(path), strict=True)
    return lambda view: DetectionTensors(*detect(network, view))
