"""COCO's JSON: FILE.json@FOLDER, or FILE.json with the images beside it."""

import json

from ....utils.errors import ConfigError, one_line
from ..reading.raw_dataset import RawDataset
from .text_file import BYTE_ORDER_MARK, file_and_folder, read_text

__all__ = ["matches", "parse", "parse_file"]

SUFFIX = ".json"


def matches(path: str) -> bool:
    """Whether a path is of this form."""
    return file_and_folder(path, SUFFIX) is not None


def parse(path: str) -> RawDataset:
    """See :func:`parse_file`."""
    return parse_file(*file_and_folder(path, SUFFIX))


def parse_file(json_file: str, folder: str) -> RawDataset:
    """The lists of a COCO JSON.

    Args:
        json_file: a file that Detectron2's PathManager opens, in UTF-8.
        folder: of its images.

    Raises:
        ConfigError: it cannot be read, or has no list of images.
    """
    content, is_plain = _content(json_file)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ConfigError(f'{json_file} is no COCO JSON: it has no list "images"')
    lists = {key: content.get(key) for key in ("annotations", "categories")}
    odd = [key for key, value in lists.items() if not isinstance(value, (list, type(None)))]
    return RawDataset(
        where=json_file,
        folder=folder,
        images=content["images"],
        annotations=lists["annotations"] if isinstance(lists["annotations"], list) else [],
        categories=lists["categories"] if isinstance(lists["categories"], list) else [],
        notes=[f'{json_file}: "{key}" is no list, and is left out' for key in odd],
        json_file=json_file if is_plain and None not in lists.values() and not odd else None,
    )


def _content(json_file: str) -> tuple[object, bool]:
    """What a file holds, and whether every reader of JSON can read it."""
    text = read_text(json_file)
    marked = text.startswith(BYTE_ORDER_MARK)
    try:
        return json.loads(text[1:] if marked else text), not marked
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{json_file} is no JSON: {one_line(error)}") from error
