"""A detector as a function of one tensor, whose operations are recorded while it runs."""

import logging
import warnings
from contextlib import contextmanager

import torch
from detectron2.export import TracingAdapter

from .detection_tensors import detect
from .source import Source

__all__ = ["adapter_of", "quiet"]


def adapter_of(source: Source, view: torch.Tensor) -> TracingAdapter:
    """In eval mode: uint8 (C, h, w) of any size to what :func:`.detection_tensors.detect` gives."""
    return TracingAdapter(source.network, view, detect).eval()


@contextmanager
def quiet():
    """Hides what tracing warns of: the comparison shows whether a recording holds elsewhere."""
    usual = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(usual)
