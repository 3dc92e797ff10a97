"""Files and folders that are either whole or not there."""

import os
import re
import shutil
import socket
from contextlib import contextmanager, suppress

from .errors import disk_error

__all__ = ["AtomicPathManager", "atomic_path", "atomic_write", "remove_temporary"]

# PATH.PID@HOST.tmp
TEMPORARY = re.compile(r"(?P<name>.+)\.(?P<pid>\d+)(@(?P<host>.+))?\.tmp", re.DOTALL)


@contextmanager
def atomic_write(path: str, mode: str = "w"):
    """Opens a local file for writing that takes its name only when all of it is on the disk.

    After a crash or an error the previous file is still there. Leftovers of killed processes that
    wrote the same file are removed. A full disk is an OSError, also where torch.save hides it.
    """
    temporary = _temporary(path)
    with _nothing_left(temporary):
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


@contextmanager
def atomic_path(path: str):
    """A path beside ``path`` to make a file or a folder at: it takes that name after the block.

    After an error nothing is left of it. A full disk is an OSError, as above. An existing file is
    replaced, an existing folder only if it is empty.
    """
    path = os.path.normpath(path)  # a folder may be named with a slash at its end
    temporary = _temporary(path)
    with _nothing_left(temporary):
        yield temporary
        os.replace(temporary, path)


@contextmanager
def _nothing_left(temporary: str):
    """Removes a file or folder after an error; that of a full disk becomes an OSError."""
    try:
        yield
    except BaseException as error:
        _remove(temporary)
        reason = disk_error(error) if isinstance(error, RuntimeError) else None
        if reason is None:
            raise
        raise OSError(*reason.args) from error


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)  # does nothing to a file
    with suppress(OSError):
        os.remove(path)


def _temporary(path: str) -> str:
    """Where to write first; leftovers of killed processes are removed."""
    remove_temporary(*os.path.split(path))
    return f"{path}.{os.getpid()}@{socket.gethostname()}.tmp"


def remove_temporary(folder: str, name: str | None = None, *, alone: bool = False) -> None:
    """Removes temporary files of :func:`atomic_write` whose processes are dead.

    Args:
        folder: where they are, not recursively.
        name: only those of the file of this name.
        alone: nobody else writes to the folder, so that processes of other hosts, which cannot be
            looked up, are dead, too.
    """
    files = []
    with suppress(OSError):
        files = os.listdir(folder or os.curdir)
    for file in files:
        found = TEMPORARY.fullmatch(file)
        if not found or name not in (None, found["name"]):
            continue
        is_here = found["host"] == socket.gethostname()
        if not _is_alive(int(found["pid"])) if is_here else alone:
            _remove(os.path.join(folder, file))


def _is_alive(pid: int) -> bool:
    """Whether another process of this host has this number."""
    if pid == os.getpid():
        return False
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


class AtomicPathManager:
    """A PathManager that writes local files atomically and leaves the rest to the wrapped one."""

    def __init__(self, path_manager):
        self._path_manager = path_manager

    def open(self, path: str, mode: str = "r", **kwargs):
        if "w" in mode and "://" not in path:
            return atomic_write(path, mode)
        return self._path_manager.open(path, mode, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._path_manager, name)
