"""Files that are either whole or not there."""

import os
import re
import socket
from contextlib import contextmanager, suppress

from .errors import disk_error

__all__ = ["AtomicPathManager", "atomic_write", "remove_temporary"]

# PATH.PID@HOST.tmp
TEMPORARY = re.compile(r"(?P<name>.+)\.(?P<pid>\d+)(@(?P<host>.+))?\.tmp", re.DOTALL)


@contextmanager
def atomic_write(path: str, mode: str = "w"):
    """Opens a local file for writing that takes its name only when all of it is on the disk.

    After a crash or an error the previous file is still there. Leftovers of killed processes that
    wrote the same file are removed. A full disk is an OSError, also where torch.save hides it.
    """
    folder, name = os.path.split(path)
    remove_temporary(folder, name)
    temporary = f"{path}.{os.getpid()}@{socket.gethostname()}.tmp"
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.remove(temporary)
        reason = disk_error(error) if isinstance(error, RuntimeError) else None
        if reason is None:
            raise
        raise OSError(*reason.args) from error


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
            with suppress(OSError):
                os.remove(os.path.join(folder, file))


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
