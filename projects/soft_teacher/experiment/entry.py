"""One command line for both config languages."""

from .experiment import Experiment
from .lazy_experiment import LazyExperiment
from .yaml_experiment import YamlExperiment

__all__ = ["load_experiment"]


def load_experiment(config_file: str, opts=()) -> Experiment:
    """What a config describes.

    Args:
        config_file: a LazyConfig if it ends in .py, else YAML.
        opts: overrides in the config's language.

    Raises:
        ConfigError: for a mistake in the config's form.
    """
    kind = LazyExperiment if config_file.endswith(".py") else YamlExperiment
    return kind.load(config_file, opts)
