"""One process at a time in a folder."""

import fcntl
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError

__all__ = ["only_one"]


@contextmanager
def only_one(folder: Path):
    """Holds a folder, which is made, until the block or the process ends.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another process works in {folder}: wait for it") from error
        yield
