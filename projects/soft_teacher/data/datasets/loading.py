"""Registered datasets, each read once where a start needs it several times."""

import gc
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.errors import ConfigError
from .formats.coco import parse_file
from .reading.reader import Reading, read_records
from .reading.records import Records, records_of

__all__ = ["is_coco_json", "load_dicts", "load_reading", "loaded_once"]

CLASSES, ID_MAP = "thing_classes", "thing_dataset_id_to_contiguous_id"


# (function, name) -> its result, inside loaded_once.
_loaded: dict[tuple[Callable, str], Any] | None = None
# Whether files are read with the masks of their annotations.
_masks = True


def _shared(make: Callable, name: str):
    """``make(name)``, once inside :func:`loaded_once`."""
    if _loaded is None:
        return make(name)
    if (make, name) not in _loaded:
        _loaded[make, name] = make(name)
    return _loaded[make, name]


def load_dicts(name: str) -> list[dict]:
    """The dicts of a registered dataset, unchecked; inside :func:`loaded_once` they are shared.

    Raises:
        ConfigError: its images or categories cannot be distinguished.
    """
    records = _shared(_read_records, name)
    if records.faults:
        raise ConfigError(records.faults[0].line)
    return records.dicts


def load_reading(name: str) -> Reading:
    """A registered dataset, read and checked; inside :func:`loaded_once` it is shared."""
    return _shared(_read, name)


@contextmanager
def loaded_once(*, masks: bool = True):
    """Inside, each dataset is loaded once; the outermost end forgets them.

    It surrounds what needs the same datasets several times: to check them, to make the streams,
    and as the common source of a split's parts. Nobody may change the dicts there. The cyclic
    garbage collector is off meanwhile: searching a large JSON's millions of objects over and over
    would take as long as reading the JSON.

    Args:
        masks: read files with the masks of their annotations. They are most of a large JSON, so a
            run of boxes alone needs less memory without; the outermost decides.
    """
    global _loaded, _masks
    if _loaded is not None:
        yield
        return
    collects = gc.isenabled()
    _loaded, _masks = {}, masks
    gc.disable()
    try:
        yield
    finally:
        _loaded, _masks = None, True
        if collects:
            gc.enable()


def is_coco_json(name: str) -> bool:
    """Whether a dataset was registered by Detectron2's ``register_coco_instances``."""
    made_by = getattr(DatasetCatalog[name], "__qualname__", "")
    return made_by.startswith("register_coco_instances.")


def _read(name: str) -> Reading:
    return read_records(_shared(_read_records, name))


def _read_records(name: str) -> Records:
    metadata = MetadataCatalog.get(name)
    load = DatasetCatalog[name]
    if hasattr(load, "records"):  # a path
        records = load.records(_masks)
        for key in (CLASSES, ID_MAP):  # the file may have changed since it was read last
            vars(metadata).pop(key, None)
    elif is_coco_json(name):
        raw = parse_file(str(metadata.json_file), str(metadata.image_root))
        records = records_of(raw, masks=_masks)
    else:
        dicts = DatasetCatalog.get(name)  # which may add to the metadata
        return Records(
            dicts=dicts,
            folder=str(metadata.get("image_root", "")),
            classes=list(metadata.get(CLASSES, ())) or None,
            id_map=metadata.get(ID_MAP, {}),
        )
    if records.classes:
        metadata.set(**{CLASSES: records.classes, ID_MAP: records.id_map})
    return records
