"""Image files of folders, patterns and lists, and lists of classes."""

import glob
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..images.image import is_image

__all__ = ["CLASS_LISTS", "is_list", "is_pattern", "left_out_notes", "listed", "listed_classes"]
__all__ += ["read_lines"]

LIST_SUFFIX = ".txt"
CLASS_LISTS = ("classes.txt", "labels.txt")
# Folders of systems and tools begin with a dot, but for this one of zip files from macOS.
MACOS_FOLDER = "__MACOSX"


def listed(path: str) -> tuple[list[str], Counter]:
    """The images of a folder, a pattern or a list in a stable order, and what was left out and why.

    Raises:
        OSError: the folder or the list cannot be read.
        ValueError: the list is no text in UTF-8.
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return _walked(path)
    if is_pattern(path):  # matches hidden files only where it names them
        return _photos(filter(os.path.isfile, glob.iglob(path, recursive=True)))
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    folder = os.path.dirname(path)
    files = [os.path.join(folder, line) for line in lines if line and not line.startswith("#")]
    return files, Counter()


def read_lines(file: str | Path) -> list[str]:
    """All lines, stripped; a byte order mark is removed, invalid UTF-8 becomes U+FFFD.

    Raises:
        OSError: the file cannot be read.
    """
    text = Path(file).read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines()]


def listed_classes(folder: str) -> list[str]:
    """The lines of a folder's ``classes.txt`` or ``labels.txt``; none if it has neither."""
    files = (os.path.join(folder, name) for name in CLASS_LISTS)
    file = next(filter(os.path.isfile, files), None)
    return list(filter(None, read_lines(file))) if file else []


def left_out_notes(taken: int, left_out: Counter) -> list[str]:
    """A line about files that were left out, if there are any."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    return [f"{taken:,} images are taken, left out are {reasons}"] if left_out else []


def is_pattern(path: str) -> bool:
    """Whether a path means all files that match it."""
    return any(character in path for character in "*?[")


def is_list(path: str) -> bool:
    """Whether a path is a text file of images."""
    return path.lower().endswith(LIST_SUFFIX)


def _walked(root: str) -> tuple[list[str], Counter]:
    """What is in a folder and in its subfolders, but for hidden ones."""
    closed: list[OSError] = []
    seen, left_out = [], Counter()
    for folder, folders, names in os.walk(root, onerror=closed.append):
        hidden = _is_hidden(os.path.relpath(folder, root))
        links = [f for f in folders if os.path.islink(os.path.join(folder, f))]
        left_out["linked folders"] += len(links)
        taken = [] if hidden else [name for name in names if not _is_hidden(name)]
        left_out["hidden files"] += len(names) - len(taken)
        seen += [os.path.join(folder, name) for name in taken]
    left_out["folders that cannot be read"] += len(closed)
    photos, others = _photos(seen)
    return photos, +left_out + others


def _photos(files: Iterable[str]) -> tuple[list[str], Counter]:
    files = list(files)
    others = [file for file in files if not is_image(file)]
    suffixes = (os.path.splitext(file)[1].lower() or "no suffix" for file in others)
    return sorted(filter(is_image, files)), Counter(f"other files ({s})" for s in suffixes)


def _is_hidden(path: str) -> bool:
    """Whether a name is what systems and tools put beside photos."""
    parts = Path(path).parts
    return MACOS_FOLDER in parts or any(part.startswith(".") for part in parts if part != "..")
