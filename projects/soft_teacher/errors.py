"""The one exception for everything a user can mend: wrong keys, missing data, wrong weights."""

import difflib
import errno
from typing import Iterable

__all__ = [
    "BrokenPackage",
    "ConfigError",
    "TrainingError",
    "did_you_mean",
    "disk_error",
    "is_full_disk",
    "one_line",
]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ConfigError(ValueError):
    """A mistake in the configuration or in what it points at.

    The message is a single line that names the key and the fix. ``train_net.py`` prints it and
    exits with status 2, without a traceback.
    """


class TrainingError(RuntimeError):
    """A training that cannot go on.

    The message is a single line. What was trained is saved; ``train_net.py`` prints the line and
    exits with status 1.
    """


class BrokenPackage(ImportError):
    """A package of others that is missing or cannot be imported.

    The message is a single line that names the package and what installs it. ``train_net.py``
    prints it and exits with status 1.
    """


def one_line(error: Exception) -> str:
    """An exception's kind and message on a single line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def disk_error(error: BaseException | None) -> OSError | None:
    """What the system said where an error, or one that it was made of, is an OSError.

    Writers of tensors raise errors of their own kinds while they handle the system's.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error comes of a disk without space, or of a quota that is used up."""
    reason = disk_error(error)
    return reason is not None and reason.errno in NO_ROOM


def did_you_mean(word: str, choices: Iterable[str], quote: str = "") -> str:
    """A hint ": did you mean X?" at the closest of ``choices``, empty if none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f": did you mean {quote}{close[0]}{quote}?" if close else ""
