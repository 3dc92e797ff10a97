"""What the command lines share: how a config is named, and how a mistake is reported.

A tool is a main function and two lines::

    @exit_status
    def main(argv=None):
        parser = argparse.ArgumentParser(description=__doc__)
        add_config_arguments(parser)
        args = parser.parse_args(argv)
        experiment = load_experiment(args.config_file, args.opts)
        ...


    if __name__ == "__main__":
        sys.exit(main())
"""

import functools
import shlex
import sys
from argparse import REMAINDER, ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import BrokenPackage, ConfigError, ExportError, TrainingError
from .folders import make_folder

__all__ = [
    "STATUSES",
    "USAGE_ERROR",
    "add_config_arguments",
    "exit_status",
    "make_output",
    "shown_command",
    "status_of",
]

PACKAGE = Path(__file__).resolve().parents[1]
# As argparse exits for a wrong argument.
USAGE_ERROR = 2
# Errors whose message is a line for the user, and the exit statuses they lead to.
STATUSES = {ConfigError: USAGE_ERROR, TrainingError: 1, ExportError: 1, BrokenPackage: 1}


def status_of(kind: type) -> int:
    """The exit status of a class of errors that is in :data:`STATUSES`, or derives from one."""
    return next(status for base, status in STATUSES.items() if issubclass(kind, base))


def exit_status(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorates a tool's main function, which returns its exit status, or None for success.

    Errors in :data:`STATUSES` become one line "error: ..." on stderr and their status; all others
    keep their traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except tuple(STATUSES) as error:
            print(f"error: {error}", file=sys.stderr)
            return status_of(type(error))

    return run


def add_config_arguments(parser: ArgumentParser) -> None:
    """Adds ``--config-file``, which is required, and ``opts``, the overrides after all options."""
    parser.add_argument(
        "--config-file",
        required=True,
        help="YAML, LazyConfig (.py), folder of a run, or name, as coco/partial_180k.yaml",
    )
    parser.add_argument(
        "opts",
        nargs=REMAINDER,
        metavar="...",
        help="overrides after all options: KEY VALUE for YAML, key=value for a LazyConfig",
    )


def make_output(folder: Path) -> None:
    """Makes the folder of ``--output``; raises ConfigError if it cannot be made or written."""
    make_folder(folder, "--output")


def shown_command(argv: Sequence[str]) -> str:
    """The command line of this process, for the user to type again.

    Args:
        argv: of :mod:`sys`; the first is a script, a command that pip installed, or a module of
            this package.
    """
    script, *rest = argv
    path = Path(script)
    if path.is_relative_to(PACKAGE):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        return shlex.join(["python", "-m", module, *rest])
    return shlex.join([*["python"] * (path.suffix == ".py"), script, *rest])
