"""Names of image files as other systems and tools write them."""

import os
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

__all__ = ["existing_file"]

# Label Studio's files of a local storage: /data/local-files/?d=FOLDER/FILE
LOCAL_FILE = re.compile(r".*/local-files/\?d=")


def existing_file(name: str, folder: str) -> str | None:
    """The file that a name which is no file may mean; None if there is none.

    Backslashes, percent-encoding and both ways to write accents are tried, and then the name
    without its leading folders, as far as the file exists then.

    Args:
        name: as a dataset has it.
        folder: of the images.
    """
    for other in _other_names(name):
        path = os.path.join(folder, other)
        if os.path.isfile(path):
            return path
    return None


def _other_names(name: str) -> Iterator[str]:
    spellings = [LOCAL_FILE.sub("", t.replace("\\", "/")) for t in (name, unquote(name))]
    forms = [unicodedata.normalize(form, text) for text in spellings for form in ("NFC", "NFD")]
    whole = list(dict.fromkeys([*spellings, *forms]))
    yield from whole
    for text in whole:
        parts = text.split("/")
        yield from ("/".join(parts[start:]) for start in range(1, len(parts)) if parts[start])
