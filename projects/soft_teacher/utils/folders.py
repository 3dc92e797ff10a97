"""Folders for output: made, tested, and locked by one process at a time."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import ConfigError, TrainingError, is_full_disk

__all__ = ["check_writable", "held", "make_folder", "room_for_results", "try_out"]

LOCK = ".lock"
# Bytes that a folder must have room for: a config and the head of a log.
TRIED = 2**16


def make_folder(path: str | os.PathLike, name: str) -> None:
    """Makes a folder, if it is missing, and tries to write to it.

    Raises ConfigError, which begins with the ``name`` of the config key or option, if it cannot.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ConfigError(f"{name} is {path!r}, which is not a folder: name one")
    with _refused(path, name):
        os.makedirs(path, exist_ok=True)
        try_out(path)


def try_out(folder: str | os.PathLike) -> None:
    """Raises OSError if a folder has no room for a small file."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(TRIED))


def check_writable(file: str, name: str) -> None:
    """Raises ConfigError, as :func:`make_folder`, if a file exists and cannot be written."""
    with _refused(file, name), suppress(FileNotFoundError):
        open(file, "r+b").close()


@contextmanager
def held(folder: str | os.PathLike, name: str) -> Iterator[list[str]]:
    """Locks an existing folder until the block or the process ends; yields warnings.

    Raises ConfigError if another process has locked it; the message names that process.
    """
    warnings = []
    with _refused(folder, name):
        file = open(os.path.join(folder, LOCK), "a+b", buffering=0)
    with file:
        # A lock lasts as long as any copy of the open file: data workers outlive a killed parent.
        os.register_at_fork(after_in_child=file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = " ".join(file.read(256).decode(errors="replace").split())
            raise ConfigError(
                f"{name} {str(folder)!r}: another process works there ({holder}); wait for it, or "
                "name another"
            ) from error
        except OSError as error:
            warnings.append(
                f"{name} {str(folder)!r} cannot be locked ({error.strerror}): start nothing else "
                "there meanwhile"
            )
        with _refused(folder, name):
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
        yield warnings


@contextmanager
def room_for_results(folder: str) -> Iterator[None]:
    """Around an evaluation with results below a folder: a full disk raises TrainingError."""
    try:
        yield
    except Exception as error:  # torch.save hides the system's error in its own
        if not is_full_disk(error):
            raise
        raise TrainingError(
            f"the evaluation cannot write its results below {folder!r}: no space left; make room "
            "there"
        ) from error


@contextmanager
def _refused(path: str | os.PathLike, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: NUL, or half of a surrogate pair
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name} {str(path)!r}: {reason}; name another") from error
