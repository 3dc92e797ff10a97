"""Datasets under the names that Detectron2's loaders and evaluators read them by."""

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.errors import ConfigError
from .coco_ground_truth import all_measured, ground_truth_file
from .formats.coco import parse_file
from .loading import is_coco_json, load_reading
from .paths import is_path
from .reading.reader import read

__all__ = ["evaluation_name", "has_annotations", "is_coco_evaluated", "prepare_evaluation"]

COCO = "coco"
# Metadata of a name alone: the name that is evaluated in its place.
ALIAS = "evaluated_as"
# Likewise: whether it has annotations, measured with or not.
ANNOTATED = "annotated"


def evaluation_name(name: str) -> str:
    """The name to evaluate a registered dataset by: see :func:`prepare_evaluation`."""
    return MetadataCatalog.get(name).get(ALIAS) or prepare_evaluation(name)


def is_coco_evaluated(name: str) -> bool:
    """Whether COCO's evaluation measures a registered dataset, rather than Pascal VOC's."""
    return MetadataCatalog.get(name).get("evaluator_type", COCO) == COCO


def has_annotations(name: str) -> bool:
    """Whether a dataset had annotations when :func:`prepare_evaluation` read it."""
    return MetadataCatalog.get(name).get(ANNOTATED, True)


def prepare_evaluation(name: str) -> str:
    """Makes a registered dataset known as it was read: with checked dicts and a normalised JSON.

    A path keeps its name. A dataset that others have registered is left alone, and gets an alias
    unless nothing differs.

    Raises:
        ConfigError: the JSON cannot be read or is faulty, or a normalised one cannot be written.
    """
    if not is_coco_evaluated(name):
        return name
    metadata = MetadataCatalog.get(name)
    reading, json_file = load_reading(name), metadata.get("json_file")
    _set(metadata, **{ANNOTATED: bool(reading.balance.read)})
    if is_path(name):
        _set(metadata, json_file=ground_truth_file(reading), **{ALIAS: name})
        return name
    if is_coco_json(name):
        return _alias(name, ground_truth_file(reading))
    if json_file is not None:  # of a dataset whose dicts come from elsewhere
        truth = _checked_file(str(json_file), str(metadata.get("image_root", "")))
        same = reading.is_unchanged and truth == str(json_file)
    else:  # Detectron2 makes one of the dicts
        same = reading.is_unchanged and all_measured(reading)
        truth = "" if same else ground_truth_file(reading)
    return name if same else _alias(name, truth)


def _checked_file(json_file: str, folder: str) -> str:
    reading = read(parse_file(json_file, folder))
    if reading.faults:
        raise ConfigError(reading.faults[0].line)
    return ground_truth_file(reading)


def _alias(name: str, json_file: str) -> str:
    alias = f"{name}_as_read"
    if alias not in DatasetCatalog.list():
        DatasetCatalog.register(alias, lambda: load_reading(name).dicts)
    known = MetadataCatalog.get(name).as_dict()
    _set(MetadataCatalog.get(alias), **{**known, "name": alias, "json_file": json_file})
    _set(MetadataCatalog.get(name), **{ALIAS: alias})
    return alias


def _set(metadata, **values) -> None:
    """Detectron2 refuses to change what it knows already; a file may change, though."""
    vars(metadata).update(values)
