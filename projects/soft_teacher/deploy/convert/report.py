"""What became of every tensor of a checkpoint, and why one cannot be converted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...utils.errors import ConfigError
from .layout import Key

__all__ = ["REPORT", "reasons_of", "write_report"]

REPORT = "keys.tsv"


@contextmanager
def reasons_of(path: str) -> Iterator[None]:
    """Errors inside, other than about an option, are reasons why a checkpoint is not converted."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        own = text.startswith("--")
        raise ConfigError(text if own else f"checkpoint '{path}' cannot be converted: {text}")


def write_report(
    folder: str, keys: Sequence[Key], left_out: Sequence[str], missing: Sequence[str] = ()
) -> None:
    """Writes a line for every tensor, for what else was in the file, and for what is missing.

    Args:
        folder: that exists.
        left_out: entries of the file that are no weights.
        missing: tensors of the detector that the file does not have.
    """
    lines = [f"{key.source}\t{key.fate}\t{key.target}" for key in keys]
    lines += [f"{name}\tleft out\t" for name in left_out]
    lines += [f"\tmissing\t{name}" for name in missing]
    with open(os.path.join(folder, REPORT), "w", encoding="utf-8") as file:
        file.write("\n".join(["source\twhat became of it\tdetectron2", *lines, ""]))
