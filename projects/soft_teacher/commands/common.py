"""What the commands share: their parsers, the config of a run, files they write."""

import argparse
from contextlib import contextmanager
from pathlib import Path

from ..data.datasets.builtin import register_builtin
from ..experiment.entry import load_experiment
from ..utils.checks import Number
from ..utils.command_line import add_config_arguments
from ..utils.errors import ConfigError, one_line

__all__ = [
    "AT_LEAST_ONE",
    "config_parser",
    "disk_errors",
    "experiment_of",
    "new_file",
    "tool_parser",
    "writing",
]

AT_LEAST_ONE = Number(low=1, whole=True)


def tool_parser(doc: str, epilog: str) -> argparse.ArgumentParser:
    """A parser that prints both texts as they are written."""
    return argparse.ArgumentParser(
        description=doc, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def config_parser(doc: str, epilog: str) -> argparse.ArgumentParser:
    """:func:`tool_parser` with --config-file and overrides."""
    parser = tool_parser(doc, epilog)
    add_config_arguments(parser)
    return parser


@contextmanager
def experiment_of(args: argparse.Namespace):
    """The experiment of --config-file; messages inside name the keys of its language."""
    experiment = load_experiment(args.config_file, args.opts)
    register_builtin()
    with experiment.words.spoken():
        yield experiment


@contextmanager
def disk_errors(prefix: str = ""):
    """Turns what the disk refuses into a ConfigError on one line."""
    try:
        yield
    except OSError as error:
        raise ConfigError(prefix + one_line(error)) from error


def writing():
    """:func:`disk_errors` of --output."""
    return disk_errors("--output cannot be written: ")


def new_file(path: Path, suffix: str) -> None:
    """Makes the folder of --output, which must be a file with this suffix.

    Raises:
        ConfigError: it has another suffix, or its folder cannot be made.
    """
    if path.suffix != suffix:
        raise ConfigError(f"--output must end in {suffix}, got '{path}'")
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
