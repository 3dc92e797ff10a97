"""A run's config and weights, wherever they are, as a detector with names for its classes."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.data import MetadataCatalog

from ..data.datasets.builtin import register_builtin
from ..data.datasets.dataset_dicts import dataset_reading
from ..data.roles import KEYS, LABELED
from ..distributed.device import usable_device
from ..evaluation.labeling import coco_categories
from ..experiment.class_file import as_categories, class_file_in, read_classes
from ..experiment.entry import load_experiment
from ..experiment.experiment import Experiment
from ..experiment.trained import Trained
from ..utils.errors import ConfigError

__all__ = ["TrainedRun", "load_run"]

logger = logging.getLogger(__name__)

FINAL, LAST = "model_final.pth", "last_checkpoint"


@dataclass(frozen=True)
class TrainedRun:
    """What a run left behind.

    Attributes:
        experiment: its config.
        trained: its model in eval mode, and the view that it is evaluated on.
        categories: COCO's, in the order of the class numbers.
    """

    experiment: Experiment
    trained: Trained
    categories: list[dict]


def load_run(
    config: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    *,
    device: str | None = None,
    classes: Sequence[str] | str | None = None,
    opts: Sequence[str] = (),
) -> TrainedRun:
    """
    Args:
        config: a YAML or LazyConfig file, or the folder of a run.
        weights: a checkpoint; those of the folder, or else those that the config names.
        device: in place of the config's.
        classes: their names, or a file of them; see :func:`_categories` for where they are looked
            for otherwise.
        opts: overrides in the config's language.

    Raises:
        ConfigError: naming the key and the fix.
    """
    config = os.fspath(config)
    register_builtin()
    experiment = load_experiment(config, opts)
    if device is not None:
        experiment.set("MODEL.DEVICE", usable_device("device", str(device)))
    weights = os.fspath(weights) if weights else _weights_in(config)
    trained = experiment.load_trained(weights=weights)
    folders = [os.path.dirname(trained.weights), *([config] if os.path.isdir(config) else [])]
    with experiment.words.spoken():
        categories = _categories(experiment, classes, folders, trained.num_classes)
    return TrainedRun(experiment, trained, categories)


def _weights_in(folder: str) -> str:
    """The last weights of a run's folder; empty for a file."""
    if not os.path.isdir(folder):
        return ""
    final, last = os.path.join(folder, FINAL), os.path.join(folder, LAST)
    if os.path.isfile(final) or not os.path.isfile(last):
        return final
    with open(last, encoding="utf-8", errors="replace") as file:
        return os.path.join(folder, file.read().strip())


def _categories(
    experiment: Experiment, classes: Sequence[str] | str | None, folders: list[str], count: int
) -> list[dict]:
    """Of ``classes``; else of classes.json beside the weights or in the folder of the run; else of
    the labeled datasets, if they are there; else numbers."""
    if classes is None:
        classes = class_file_in(*folders)
    if isinstance(classes, (str, os.PathLike)):
        where, found = f"'{os.fspath(classes)}'", read_classes(os.fspath(classes))
    elif classes is not None:
        where, found = "classes", as_categories(list(classes))
    else:
        where, found = KEYS[LABELED], _of_datasets(experiment, count)
    if len(found) != count:
        raise ConfigError(f"{where} has {len(found)} classes, the weights have {count}")
    return found


def _of_datasets(experiment: Experiment, count: int) -> list[dict]:
    names, _ = experiment.train_names()
    try:
        for name in names:
            if not MetadataCatalog.get(name).get("thing_classes"):
                dataset_reading(KEYS[LABELED], name)
    except ConfigError as error:
        logger.warning("classes are called by their numbers, name a file of classes: %s", error)
        return as_categories([str(number) for number in range(count)])
    return coco_categories(names, count)
