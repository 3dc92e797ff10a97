"""Values of JSON in the types that they are meant in, where that is plain."""

from collections.abc import Hashable, Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

__all__ = ["as_box", "as_flag", "as_id", "as_number", "as_side", "has_only", "is_text"]
__all__ += ["matching_id", "LARGEST_ID", "LARGEST_NUMBER"]

# Beyond these, float32 pixels and int64 ids overflow.
LARGEST_NUMBER, LARGEST_ID = 2.0**31, 2**63 - 1
FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}


def has_only(values: Iterable, *types: type) -> bool:
    """Whether all values are of these very types; as fast as Python goes over them."""
    return set(map(type, values)) <= set(types)


def is_text(value: Any) -> bool:
    """Whether a value is a text that a file system and a log can take."""
    return isinstance(value, str) and value != "" and "\0" not in value and not _is_broken(value)


def _is_broken(text: str) -> bool:
    """Whether a text holds half of a character, as JSON can write it."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def as_number(value: Any) -> Real | None:
    """A finite number, also one that is written as text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return None
    return value if abs(value) <= LARGEST_NUMBER else None


def as_side(value: Any) -> int | None:
    """A side of an image in pixels; None for what is no positive whole number."""
    number = as_number(value)
    return int(number) if number is not None and number >= 1 and number == int(number) else None


def as_id(value: Any) -> int | str | None:
    """An id: a whole number, or a text as it is; None for anything else."""
    if isinstance(value, str):
        return value if is_text(value) else None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        return None
    return int(value) if abs(value) <= LARGEST_ID and value == int(value) else None


def matching_id(value: Any, known: dict[Hashable, Any]) -> int | str | None:
    """The id in ``known`` that a value means: 1 is "1" where only one of them is there."""
    found = as_id(value)
    if found is None or found in known:
        return found
    try:
        other = int(found) if isinstance(found, str) else str(found)
    except ValueError:
        return None
    return other if other in known else None


def as_flag(value: Any) -> int | None:
    """0 or 1; None for what is neither, though null is 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        return FLAGS.get(value.strip().lower())
    return int(value != 0) if isinstance(value, Real) and value == value else None


def as_box(value: Any) -> Sequence | None:
    """Four finite numbers: the value itself if it holds them, a list if they are texts, or None."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 4:
        return None
    numbers = [as_number(number) for number in value]
    if None in numbers:
        return None
    return value if not any(isinstance(number, str) for number in value) else numbers
