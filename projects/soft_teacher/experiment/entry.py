"""One command line for both config languages."""

import os

from ..distributed.device import bound_compiled_shapes
from .dumped_config import is_dumped
from .experiment import Experiment
from .lazy_experiment import LazyExperiment
from .yaml_experiment import YamlExperiment

__all__ = ["load_experiment"]


def load_experiment(config_file: str, opts=()) -> Experiment:
    """What a config describes.

    Args:
        config_file: a LazyConfig if it ends in .py, else YAML; the folder of a run for the
            config.yaml in it.
        opts: overrides in the config's language.

    Raises:
        ConfigError: for a mistake in the config's form.
    """
    bound_compiled_shapes()  # every run and tool comes here before it has a network
    if os.path.isdir(config_file):
        config_file = os.path.join(config_file, "config.yaml")
    is_lazy = config_file.endswith(".py") or is_dumped(config_file)
    kind = LazyExperiment if is_lazy else YamlExperiment
    return kind.load(config_file, opts)
