"""Checks of single values that many parts share."""

from typing import Sequence

from .errors import ConfigError

__all__ = ["check_choice", "check_fraction", "check_not_negative"]


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, got '{value}'")


def check_fraction(key: str, value: float) -> None:
    """Raises ConfigError unless ``value`` lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ConfigError(f"{key} must lie strictly between 0 and 1, got {value}")


def check_not_negative(key: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is 0 or more."""
    if not value >= 0:
        raise ConfigError(f"{key} must not be negative, got {value}")
