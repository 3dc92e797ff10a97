"""Registered datasets, each read once where a start needs it several times."""

import gc
from contextlib import contextmanager
from typing import Dict, List, Optional

from detectron2.data import DatasetCatalog

__all__ = ["load_dicts", "loaded_once"]

_loaded: Optional[Dict[str, List[dict]]] = None


def load_dicts(name: str) -> List[dict]:
    """The dicts of a registered dataset; inside :func:`loaded_once` they are shared."""
    if _loaded is None:
        return DatasetCatalog.get(name)
    if name not in _loaded:
        _loaded[name] = DatasetCatalog.get(name)
    return _loaded[name]


@contextmanager
def loaded_once():
    """Inside, :func:`load_dicts` loads each dataset once; the outermost end forgets them.

    It surrounds what needs the same datasets several times: to check them, to make the streams,
    and as the common source of a split's parts. Nobody may change the dicts there. The cyclic
    garbage collector rests meanwhile: to search a large JSON's millions of objects again and
    again takes it as long as the JSON takes to read.
    """
    global _loaded
    if _loaded is not None:
        yield
        return
    collects = gc.isenabled()
    _loaded = {}
    gc.disable()
    try:
        yield
    finally:
        _loaded = None
        if collects:
            gc.enable()
