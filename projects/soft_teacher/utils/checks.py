"""Checks of single values."""

import math
import os
import reprlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .errors import ConfigError

__all__ = [
    "Each",
    "Flag",
    "Number",
    "Text",
    "check_choice",
    "check_file",
    "check_fraction",
    "check_not_negative",
    "shown",
]

# Somewhere, seeds and numbers of images or steps are int32.
LARGEST_WHOLE = 2**31 - 1
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxtuple = 10


def shown(value: Any) -> str:
    """A value for a message: on one line, and abbreviated if it is long."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python prints no integer of thousands of digits
        return f"a {type(value).__name__} too long to show"


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, got {shown(value)}")


def check_file(key: str, path: str) -> None:
    """Raises ConfigError unless ``path`` is a file."""
    if not os.path.isfile(path):
        what = "is not a file" if os.path.exists(path) else "does not exist"
        raise ConfigError(f"{key} '{path}' {what}")


def check_fraction(key: str, value: float) -> None:
    """Raises ConfigError unless ``value`` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{key} must lie strictly between 0 and 1, got {shown(value)}")


def check_not_negative(key: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is 0 or more."""
    if not value >= 0:
        raise ConfigError(f"{key} must not be negative, got {shown(value)}")


@dataclass(frozen=True)
class Number:
    """Checks that a value is a finite number within bounds.

    A check is called with the key, for the message, and the value. It raises ConfigError.

    Attributes:
        low, high: inclusive bounds.
        above: an exclusive lower bound.
        whole: only integers.
        optional: None is accepted, too.
    """

    low: float | None = None
    high: float | None = None
    above: float | None = None
    whole: bool = False
    optional: bool = False

    def __call__(self, key: str, value: Any) -> None:
        if self._has(value) or self.optional and value is None:
            return
        too_large = self.whole and isinstance(value, Integral) and value > LARGEST_WHOLE
        wanted = f"a number of at most {LARGEST_WHOLE}" if too_large else self
        raise ConfigError(f"{key} must be {wanted}, got {shown(value)}")

    def _has(self, value: Any) -> bool:
        kind, largest = (Integral, LARGEST_WHOLE) if self.whole else (Real, sys.float_info.max)
        if isinstance(value, bool) or not isinstance(value, kind) or not abs(value) <= largest:
            return False
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        return low <= value <= high and (self.above is None or value > self.above)

    def __str__(self) -> str:
        limits = {"above": self.above, "of at least": self.low, "of at most": self.high}
        bounds = [f"{words} {bound}" for words, bound in limits.items() if bound is not None]
        noun = "whole number" if self.whole else "number" if bounds else "finite number"
        return " ".join(["a", noun, " and ".join(bounds)]).rstrip() + " or None" * self.optional


@dataclass(frozen=True)
class Flag:
    """Checks that a value is True or False, see :class:`Number`."""

    def __call__(self, key: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"{key} must be True or False, got {shown(value)}")


@dataclass(frozen=True)
class Text:
    """Checks that a value is a text, one of ``choices`` if there are any, see :class:`Number`.

    With ``empty``, the empty text and None are accepted, too.
    """

    choices: tuple[str, ...] = ()
    empty: bool = True

    def __call__(self, key: str, value: Any) -> None:
        if self.empty and value is None:
            return
        if not isinstance(value, str) or "\0" in value or not (value or self.empty):
            kind = "a text" if self.empty else "a text that is not empty"
            raise ConfigError(f"{key} must be {kind}, got {shown(value)}")
        if self.choices:
            check_choice(key, value, self.choices)


@dataclass(frozen=True)
class Each:
    """Checks every item of a list, see :class:`Number`.

    Attributes:
        item: the check of an item.
        length: the required number of items, if any.
        empty: the empty list is accepted.
        ascending: each item must be larger than the one before.
        single: a single text instead of a list is accepted, too.
    """

    item: Callable[[str, Any], None]
    length: int | None = None
    empty: bool = True
    ascending: bool = False
    single: bool = False

    def __call__(self, key: str, value: Any) -> None:
        if self.single and isinstance(value, str):
            value = [value]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{key} must be a list, got {shown(value)}")
        if self.length is not None and len(value) != self.length:
            raise ConfigError(f"{key} must have {self.length} items, got {shown(list(value))}")
        if not value and not self.empty:
            raise ConfigError(f"{key} must not be empty")
        for item in value:
            self.item(f"each item of {key.removeprefix('each item of ')}", item)
        if self.ascending and any(a >= b for a, b in zip(value, value[1:])):
            raise ConfigError(f"{key} must be ascending, got {shown(list(value))}")
