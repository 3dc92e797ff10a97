"""Text files of datasets, and what is said about them."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["example", "read_lines"]


def read_lines(file: str | Path) -> list[str]:
    """All lines, stripped; a byte order mark goes, bytes that are no UTF-8 become U+FFFD.

    Raises:
        OSError: the file cannot be read.
    """
    text = Path(file).read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines()]


def example(found: Sequence[str], what: str) -> list[str]:
    """One line that counts what was found and shows the first; none if nothing was."""
    return [" ".join(f"{len(found)} {what}, first {found[0]}".splitlines())] if found else []
