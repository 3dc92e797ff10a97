"""Files of annotations: the paths that name one with the folder of its images, and its text."""

import os
import re

from detectron2.utils.file_io import PathManager

from ....utils.errors import ConfigError, one_line

__all__ = ["BYTE_ORDER_MARK", "file_and_folder", "read_text"]

BYTE_ORDER_MARK = "\ufeff"


def file_and_folder(path: str, suffix: str) -> tuple[str, str] | None:
    """The parts of FILE@FOLDER; of FILE, its own folder; None if no FILE has the suffix."""
    form = rf"(?P<file>.+?{re.escape(suffix)})(@(?P<folder>.*))?"
    found = re.fullmatch(form, path, re.IGNORECASE | re.DOTALL)
    if found is None:
        return None
    file = os.path.expanduser(found["file"])
    return file, os.path.expanduser(found["folder"] or "") or os.path.dirname(file)


def read_text(file: str) -> str:
    """What a file that Detectron2's PathManager opens holds, a byte order mark included.

    Raises:
        ConfigError: it cannot be read, or is not in UTF-8.
    """
    try:
        with PathManager.open(file, "r", encoding="utf-8") as opened:
            return opened.read()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} cannot be read: save it as UTF-8 ({error})") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {one_line(error)}") from error
