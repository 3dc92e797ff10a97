"""classes.json: the classes of a run, in its folder, so that its weights can go elsewhere."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..data.values import as_id, is_text
from ..utils.atomic import atomic_write
from ..utils.errors import ConfigError, one_line

__all__ = [
    "CLASS_FILE",
    "as_categories",
    "class_file_in",
    "is_category",
    "read_classes",
    "write_classes",
]

CLASS_FILE = "classes.json"


def as_categories(names: Sequence[str]) -> list[dict]:
    """COCO's categories of class names, with ids from 1 on."""
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]


def is_category(value) -> bool:
    """Whether a value of a JSON is a category with id and name."""
    fields = value if isinstance(value, dict) else {}
    return as_id(fields.get("id")) is not None and is_text(fields.get("name"))


def class_file_in(*folders: str) -> str | None:
    """The ``classes.json`` of the first folder that has one."""
    files = (os.path.join(folder, CLASS_FILE) for folder in folders)
    return next(filter(os.path.isfile, files), None)


def write_classes(folder: str, categories: Sequence[dict]) -> None:
    """Writes COCO's ``categories``, in the order of the class numbers."""
    with atomic_write(os.path.join(folder, CLASS_FILE)) as file:
        json.dump(list(categories), file, indent=1)
        file.write("\n")


def read_classes(file: str) -> list[dict]:
    """The categories of a file: COCO's, or a list of names; a class a line if it is no JSON.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        lines = [line.strip() for line in text.splitlines()]
        listed = json.loads(text) if file.endswith(".json") else list(filter(None, lines))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {one_line(error)}") from error
    if isinstance(listed, list) and all(map(is_text, listed)):
        return as_categories(listed)
    if not isinstance(listed, list) or not all(map(is_category, listed)):
        raise ConfigError(f"{file} holds no classes: list their names, or COCO's categories")
    return [{"id": c["id"], "name": c["name"]} for c in listed]
