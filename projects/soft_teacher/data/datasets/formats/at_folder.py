"""Paths that name a file of annotations and the folder of its images."""

import os
import re

__all__ = ["file_and_folder"]


def file_and_folder(path: str, suffix: str) -> tuple[str, str] | None:
    """The parts of FILE@FOLDER; of FILE, its own folder; None if no FILE has the suffix."""
    form = rf"(?P<file>.+?{re.escape(suffix)})(@(?P<folder>.*))?"
    found = re.fullmatch(form, path, re.IGNORECASE | re.DOTALL)
    if found is None:
        return None
    file = os.path.expanduser(found["file"])
    return file, os.path.expanduser(found["folder"] or "") or os.path.dirname(file)
