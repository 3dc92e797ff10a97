"""Files that are either whole or not there."""

import os
from contextlib import contextmanager

__all__ = ["AtomicPathManager", "atomic_write"]


@contextmanager
def atomic_write(path: str, mode: str = "w"):
    """Opens a local file for writing that takes its name only when all of it is on the disk.

    A crash or an error in between leaves what had the name before.

    Raises:
        OSError: for instance when the disk is full.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


class AtomicPathManager:
    """A PathManager whose local files are written atomically; the rest is the wrapped one's."""

    def __init__(self, path_manager):
        self._path_manager = path_manager

    def open(self, path: str, mode: str = "r", **kwargs):
        if "w" in mode and "://" not in path:
            return atomic_write(path, mode)
        return self._path_manager.open(path, mode, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._path_manager, name)
