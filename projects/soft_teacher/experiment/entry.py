"""One command line for both config languages."""

import os

from ..distributed.device import bound_compiled_shapes
from ..model_zoo import find_config
from .dumped_config import is_dumped
from .experiment import Experiment
from .lazy_experiment import LazyExperiment
from .yaml_experiment import YamlExperiment

__all__ = ["load_experiment", "path_of_config"]


def load_experiment(config_file: str, opts=()) -> Experiment:
    """What a config describes.

    Args:
        config_file: see :func:`path_of_config`; a LazyConfig if it ends in .py, else YAML.
        opts: overrides in the config's language.

    Raises:
        ConfigError: there is no such config, or for a mistake in its form.
    """
    bound_compiled_shapes()  # every run and tool comes here before it has a network
    config_file = path_of_config(config_file)
    is_lazy = config_file.endswith(".py") or is_dumped(config_file)
    kind = LazyExperiment if is_lazy else YamlExperiment
    return kind.load(config_file, opts)


def path_of_config(config_file: str) -> str:
    """The file that ``--config-file`` names.

    Args:
        config_file: a file, the folder of a run for the config.yaml in it, or a name of
            :mod:`soft_teacher.model_zoo`.

    Raises:
        ConfigError: there is no such config.
    """
    found = find_config(config_file)
    return os.path.join(found, "config.yaml") if os.path.isdir(found) else found
