"""A run's config and weights, wherever they are, as a detector with names for its classes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..data.datasets.builtin import register_builtin
from ..distributed.device import usable_device
from ..experiment.entry import load_experiment
from ..experiment.experiment import Experiment
from ..experiment.trained import Trained
from .class_names import categories_of

__all__ = ["TrainedRun", "load_run", "weights_of"]

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
        classes: their names, or a file of them; see :func:`.class_names.categories_of` for where
            they are looked for otherwise, in the folders of the weights and of the run.
        opts: overrides in the config's language.

    Raises:
        ConfigError: naming the key and the fix.
    """
    config = os.fspath(config)
    register_builtin()
    experiment = load_experiment(config, opts)
    if device is not None:
        experiment.set("MODEL.DEVICE", usable_device("device", str(device)))
    weights = os.fspath(weights) if weights else weights_of(experiment, config, opts)
    trained = experiment.load_trained(weights=weights)
    folders = [os.path.dirname(trained.weights), *([config] if os.path.isdir(config) else [])]
    with experiment.words.spoken():
        categories = categories_of(experiment, trained.num_classes, given=classes, folders=folders)
    return TrainedRun(experiment, trained, categories)


def weights_of(experiment: Experiment, folder: str, opts: Sequence[str]) -> str:
    """The last weights of a run's folder; empty for those that the config names.

    Those are meant where the config is a file, or the overrides ``opts`` name others.
    """
    named = {option.partition("=")[0] for option in opts}
    if not os.path.isdir(folder) or named & {key for key, _ in experiment.values("MODEL.WEIGHTS")}:
        return ""
    final, last = os.path.join(folder, FINAL), os.path.join(folder, LAST)
    if os.path.isfile(final) or not os.path.isfile(last):
        return final
    with open(last, encoding="utf-8", errors="replace") as file:
        return os.path.join(folder, file.read().strip())
