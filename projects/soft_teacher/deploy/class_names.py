"""What the classes of a trained detector are called, wherever that is written."""

import os
from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from ..data.datasets.dataset_dicts import dataset_reading
from ..data.roles import KEYS, LABELED, TEST
from ..evaluation.labeling import coco_categories
from ..experiment.class_file import as_categories, class_file_in, read_classes
from ..experiment.experiment import Experiment
from ..utils.errors import ConfigError

__all__ = ["categories_of"]

FIX = "name the file of the classes by --classes (in Python: classes)"


def categories_of(
    experiment: Experiment,
    num_classes: int,
    *,
    given: Sequence[str] | str | os.PathLike | None = None,
    folders: Sequence[str] = (),
) -> list[dict]:
    """COCO's categories by class number.

    Args:
        num_classes: that the detector has.
        given: names, or a file of them; else they are those of classes.json in the first of the
            ``folders`` that has one, else of the first dataset of the config that has classes.

    Raises:
        ConfigError: there are none, or not as many as the detector has.
    """
    if given is None:
        given = class_file_in(*folders)
    if isinstance(given, (str, os.PathLike)):
        where, found = f"'{os.fspath(given)}'", read_classes(os.fspath(given))
    elif given is not None:
        where, found = "classes", as_categories(list(given))
    else:
        where, found = _of_datasets(experiment, num_classes)
    if len(found) != num_classes:
        raise ConfigError(
            f"{where} has {len(found)} classes, the detector has {num_classes}: {FIX}"
        )
    return found


def _of_datasets(experiment: Experiment, num_classes: int) -> tuple[str, list[dict]]:
    tests = experiment.dataset_names(eval_only=True)["test"]
    names = [(KEYS[LABELED], name) for name in experiment.train_names()[0]]
    names += [(TEST, name) for name in tests]
    # Those of which nothing has to be read go first.
    for key, name in sorted(names, key=lambda named: not _known(named[1])):
        try:
            if _known(name) or dataset_reading(key, name).classes:
                return f"{key} '{name}'", coco_categories([name], num_classes)
        except ConfigError as error:
            raise ConfigError(f"{error}; or {FIX}") from error
    raise ConfigError(f"no dataset names the classes: {FIX}")


def _known(name: str) -> bool:
    return bool(MetadataCatalog.get(name).get("thing_classes"))
