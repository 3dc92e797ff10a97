"""Overrides of YAML's keys in the language of a config."""

import ast
import functools
from collections.abc import Sequence

from soft_teacher.experiment.entry import load_experiment
from soft_teacher.experiment.experiment import Experiment
from soft_teacher.utils.errors import ConfigError

__all__ = ["in_language_of"]


def in_language_of(config_file: str, opts: Sequence[str]) -> list[str]:
    """KEY VALUE ... as they are for a YAML config, else as key=value ... of a LazyConfig.

    Raises:
        ConfigError: the LazyConfig has nothing that a key represents.
    """
    if not config_file.endswith(".py"):
        return list(opts)
    experiment = _loaded(config_file)
    found = []
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        try:
            paths = [path for path, _ in experiment.values(key)]
        except KeyError:
            paths = []
        if not paths:
            raise ConfigError(f"{config_file} has no counterpart of {key}")
        found += [f"{path}={_written(value)}" for path in paths]
    return found


@functools.lru_cache
def _loaded(config_file: str) -> Experiment:
    return load_experiment(config_file)


def _written(value: str) -> str:
    """A value as the overrides of a LazyConfig are written; texts in quotes."""
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        parsed = value
    if isinstance(parsed, (list, tuple)):
        return f"[{','.join(_written(str(item)) for item in parsed)}]"
    return repr(parsed) if isinstance(parsed, str) else str(parsed)
