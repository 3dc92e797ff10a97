"""OUTPUT_DIR belongs to one run at a time, and is never reused by another."""

import os
from contextlib import ExitStack, contextmanager
from glob import escape, glob
from typing import Iterator

from detectron2.utils import comm

from ..utils.atomic import remove_temporary
from ..utils.errors import ConfigError
from ..utils.folders import check_writable, held, make_folder

__all__ = ["run_folder"]

# What a run leaves behind.
TRACES = ("last_checkpoint", "metrics.json", "model_*.pth")
# What else a run writes to.
FILES = ("classes.json", "config.yaml", "log.txt", "metrics.json")
SUBFOLDERS = ("inference", "nonfinite", "pictures")


@contextmanager
def run_folder(path: str, *, key: str, resume: bool, eval_only: bool) -> Iterator[list[str]]:
    """Makes the folder of a run on every machine, and locks it on the main rank.

    Temporary files of killed runs are removed. Called on all ranks, which all raise if one does. An
    evaluation neither locks nor cleans the folder.

    Args:
        path: OUTPUT_DIR.
        key: its name in the config.
        resume, eval_only: of the command line.

    Yields:
        warnings.

    Raises:
        ConfigError: the folder cannot be written, is in use by another process, or holds a run that
            is not to be resumed.
    """
    warnings, refusal = [], None
    with ExitStack() as stack:
        try:
            _make(path, key)
            if comm.is_main_process() and not eval_only:
                warnings = stack.enter_context(held(path, key))
                if not resume:
                    _check_unused(path, key)
                _clean(path, alone=not warnings)
        except ConfigError as error:
            refusal = str(error)
        for message in filter(None, comm.all_gather(refusal)):
            raise ConfigError(message)
        yield warnings


def _make(path: str, key: str) -> None:
    if str(path).endswith((".txt", ".log")):
        raise ConfigError(
            f"{key} {path!r}: Detectron2 takes a name in .txt or .log for a log file; "
            "choose another"
        )
    make_folder(path, key)
    for name in FILES:
        check_writable(os.path.join(path, name), key)


def _check_unused(path: str, key: str) -> None:
    for pattern in TRACES:
        for found in glob(os.path.join(escape(path), pattern)):
            raise ConfigError(
                f"{key} {path!r} already holds a run ({os.path.basename(found)}): add "
                "--resume to continue it, or name another folder"
            )


def _clean(path: str, *, alone: bool) -> None:
    remove_temporary(path, alone=alone)
    for name in SUBFOLDERS:
        for folder, _, _ in os.walk(os.path.join(path, name)):
            remove_temporary(folder, alone=alone)
