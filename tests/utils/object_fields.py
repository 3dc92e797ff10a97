"""Everything that an object is made of, to compare what both config languages build."""

import types
from collections.abc import Mapping, Sequence

import numpy as np
import torch

# A weight of the losses that is not given is 1.
IGNORED = ("loss_weight.loss_cls", "trainer", "data_loader")


def fields(thing, path="", above=()) -> dict:
    """{path: value} of everything an object is made of; of tensors the shape.

    Lists and tuples are the same to it, and so are dicts and LazyConfig's.
    """
    if isinstance(thing, (type(None), bool, int, float, str)):
        return {path: thing}
    if isinstance(thing, torch.Tensor):
        return {path: (tuple(thing.shape), thing.dtype, thing.requires_grad)}
    if isinstance(thing, np.ndarray):
        return {path: (thing.shape, thing.dtype, thing.tobytes())}
    if isinstance(thing, (type, types.FunctionType, types.MethodType)):
        return {path: f"{thing.__module__}.{thing.__qualname__}"}
    if isinstance(thing, (torch.dtype, torch.device)):
        return {path: thing}
    if isinstance(thing, (set, frozenset)):
        return {path: set(map(str, thing))}
    if any(thing is one for one in above):
        return {}
    if isinstance(thing, Sequence):
        found, items = {}, enumerate(thing)
    elif isinstance(thing, Mapping):
        found, items = {}, thing.items()
    else:
        found, items = {path: type(thing).__qualname__}, getattr(thing, "__dict__", {}).items()
    for key, value in items:
        inner = f"{path}.{key}"
        if not inner.endswith(IGNORED):
            found.update(fields(value, inner, (*above, thing)))
    return found
