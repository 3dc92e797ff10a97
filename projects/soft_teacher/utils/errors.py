"""Errors whose message is one line for the user, and what other errors say."""

import difflib
import errno
import traceback
from collections.abc import Callable, Iterable
from types import FrameType

__all__ = [
    "BrokenPackage",
    "ConfigError",
    "ExportError",
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
    """A mistake that the user can fix, in the configuration or in what it points at.

    The message names the key and the fix. The command prints it and exits with status 2,
    without a traceback.
    """


class TrainingError(_OneLine, RuntimeError):
    """A run that cannot continue.

    Complete steps are saved; the command prints the message and exits with status 1.
    """


class ExportError(_OneLine, RuntimeError):
    """A model in another form that does not do what the detector does; it has not been written."""


class BrokenPackage(ImportError):
    """A third-party package that is missing or cannot be imported.

    The message is a single line that names the package and what installs it. The command
    prints it and exits with status 1.
    """


def one_line(error: Exception) -> str:
    """An exception's kind and message on a single line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def disk_error(error: BaseException | None) -> OSError | None:
    """The OSError that an error is, or that it was raised from or while handling, if any."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def is_full_disk(error: BaseException) -> bool:
    """Whether an error is due to a full disk or an exhausted quota."""
    reason = disk_error(error)
    return reason is not None and reason.errno in NO_ROOM


def did_you_mean(word: str, choices: Iterable[str], quote: str = "") -> str:
    """A hint ": did you mean X?" at the closest of ``choices``, empty if none is close."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f": did you mean {quote}{close[0]}{quote}?" if close else ""


def place_of(error: Exception, counts: Callable[[FrameType], bool] = lambda frame: True) -> str:
    """FILE:LINE where an exception was raised, in the innermost frame that ``counts``; or ""."""
    stack = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if counts(f)]
    return f"{stack[-1][0].f_code.co_filename}:{stack[-1][1]}" if stack else ""
