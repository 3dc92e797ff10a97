"""The one exception for everything a user can mend: wrong keys, missing data, wrong weights."""

import difflib
import errno
import traceback
from types import FrameType
from typing import Callable, Iterable

__all__ = [
    "BrokenPackage",
    "ConfigError",
    "TrainingError",
    "did_you_mean",
    "disk_error",
    "is_full_disk",
    "one_line",
    "place_of",
]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _OneLine(Exception):
    """The message is a single line, whatever names and values stand in it."""

    def __init__(self, message: str = ""):
        super().__init__(" ".join(part.strip() for part in str(message).splitlines()))


class ConfigError(_OneLine, ValueError):
    """A mistake in the configuration or in what it points at.

    The message names the key and the fix. ``train_net.py`` prints it and exits with status 2,
    without a traceback.
    """


class TrainingError(_OneLine, RuntimeError):
    """A training that cannot go on.

    What was trained is saved; ``train_net.py`` prints the message and exits with status 1.
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


def place_of(error: Exception, counts: Callable[[FrameType], bool] = lambda frame: True) -> str:
    """FILE:LINE of where an exception was raised, empty if that is unknown.

    Args:
        counts: whether a frame of the stack is one to name; of those the innermost is.
    """
    stack = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if counts(f)]
    return f"{stack[-1][0].f_code.co_filename}:{stack[-1][1]}" if stack else ""
