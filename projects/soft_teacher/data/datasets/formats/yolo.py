"""YOLO datasets: FILE.yaml@SPLIT, where the file names a split's folder or list of images.

The labels of images/a.jpg are in labels/a.txt, those of an image below no such folder beside it.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from ....utils.checks import shown
from ....utils.errors import ConfigError, did_you_mean, one_line
from ...images.sizes import image_sizes
from ..listing import left_out_notes, listed, read_lines
from ..reading.file_names import existing_file
from ..reading.raw_dataset import RawDataset, example
from .yolo_labels import label_file, read_labels, whole_number

__all__ = ["matches", "parse"]

SUFFIXES = (".yaml", ".yml")
SPLITS = ("train", "val", "test")
# What may be beside images.
LABELS = "other files (.txt)"
# How far a box may leave the image, as a share of it, before it is more than a rounding error.
TOLERANCE = 0.01


def matches(path: str) -> bool:
    """Whether a path is of this form."""
    return _parts(path)[0].lower().endswith(SUFFIXES)


def parse(path: str) -> RawDataset:
    """The images of a split; their ids are their paths from the file's folder.

    An image whose label file is missing or empty has no object. Splits are looked for below
    ``path`` of the file, which may be relative to it, and beside the file.

    Args:
        path: FILE.yaml@SPLIT, where the split is a key of the file: train, val or test.

    Raises:
        ConfigError: the file, its classes, the split or its images cannot be read.
    """
    file, split = _parts(path)
    data = _content(file)
    names = _names(file, data)
    roots = _roots(file, data)
    parts = [_images(file, entry, roots) for entry in _entries(file, data, split)]
    found = [image for images, _ in parts for image in images]
    left_out = sum((others for _, others in parts), Counter())
    if not found:
        raise ConfigError(f"'{path}' has no images: fill the folders or lists of {split}")
    images = list(dict.fromkeys(found))
    raw = RawDataset(
        where=path,
        folder=os.path.dirname(os.path.abspath(file)),
        images=[],
        annotations=[],
        categories=[{"id": number, "name": name} for number, name in names.items()],
        notes=left_out_notes(len(images), left_out),
    )
    if len(images) < len(found):
        raw.notes.append(f"{len(found) - len(images)} images are named again and read once")
    if "nc" in data and data["nc"] != str(len(names)):
        raw.notes.append(f"{file}: nc is not the number of names, {len(names)}, which counts")
    _add_labeled(raw, images, keypoint_numbers=_keypoint_numbers(data))
    return raw


def _parts(path: str) -> tuple[str, str]:
    """The file and the split, which is empty if the path names none."""
    path = os.path.expanduser(path)
    file, _, split = path.rpartition("@")
    return (path, "") if path.lower().endswith(SUFFIXES) else (file, split)


def _content(file: str) -> dict:
    """The YAML's mapping, every value a text: ``no`` is a class, too."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
        # The plainest of the safe loaders; it cannot be made to multiply what it merges.
        data = yaml.load(text, Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {one_line(error)}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file} is no YOLO dataset: it has no keys train, val and names")
    return data


def _names(file: str, data: dict) -> dict[int, str]:
    """Class number -> name, in the order of the numbers."""
    found = data.get("names")
    names = found if isinstance(found, dict) else {str(n): k for n, k in enumerate(_as_list(found))}
    pairs = [(whole_number(number), name) for number, name in names.items()]
    if not pairs or any(number is None or not isinstance(name, str) for number, name in pairs):
        raise ConfigError(f"{file}: names must be a list of classes, or map their numbers to them")
    return dict(sorted(pairs))


def _entries(file: str, data: dict, split: str) -> list[str]:
    """The folders and lists of images that a split names."""
    splits = {key: _texts(data.get(key)) for key in (*SPLITS, split)}
    if splits[split]:
        return splits[split]
    known = [key for key in SPLITS if splits[key]]
    if not known:
        raise ConfigError(f"{file} names no images: give it folders or lists as train, val or test")
    hint = did_you_mean(split, known) or f": name one as {file}@{known[0]}"
    raise ConfigError(f"{file} names no images as {shown(split)}, but {', '.join(known)}{hint}")


def _texts(value) -> list[str]:
    """A text or a list of texts as a list, which is empty for anything else."""
    texts = [text for text in ([value] if isinstance(value, str) else _as_list(value)) if text]
    return texts if all(isinstance(text, str) for text in texts) else []


def _as_list(value) -> list:
    return value if isinstance(value, list) else []


def _roots(file: str, data: dict) -> list[str]:
    """Folders that the entries may be relative to, the likeliest first."""
    here = os.path.dirname(os.path.abspath(file))
    path = data.get("path")
    path = os.path.expanduser(path) if isinstance(path, str) else ""
    return list(dict.fromkeys([os.path.join(here, path), os.path.abspath(path or here), here]))


def _images(file: str, entry: str, roots: Sequence[str]) -> tuple[list[str], Counter]:
    """The images of a folder or a list, and what was left out for which reason."""
    # Roboflow writes ../train/images where it means train/images.
    spellings = (os.path.expanduser(entry), entry.removeprefix("../"))
    paths = [os.path.normpath(os.path.join(root, name)) for root in roots for name in spellings]
    found = next(filter(os.path.exists, paths), None)
    if found is None:
        raise ConfigError(f"{file}: there is no {shown(entry)}, looked for {shown(paths[0])}")
    try:
        if os.path.isdir(found):
            images, left_out = listed(found)
            del left_out[LABELS]
            return images, left_out
        names = filter(None, read_lines(found))
    except OSError as error:
        raise ConfigError(f"{file}: {found} cannot be read: {one_line(error)}") from error
    folders = [os.path.dirname(found), *roots]
    return [_existing(name, folders) for name in names], Counter()


def _existing(name: str, folders: Sequence[str]) -> str:
    """The path of a file in the first folder that has it, else in the first folder."""
    paths = [os.path.normpath(os.path.join(folder, name)) for folder in folders]
    others = (existing_file(name, folder) for folder in folders)
    return next(filter(os.path.isfile, paths), None) or next(filter(None, others), paths[0])


def _keypoint_numbers(data: dict) -> int:
    shape = [whole_number(n) for n in _as_list(data.get("kpt_shape")) if isinstance(n, str)]
    return max(0, math.prod(shape)) if shape and None not in shape else 0


def _add_labeled(raw: RawDataset, images: Sequence[str], *, keypoint_numbers: int) -> None:
    """Fills images, annotations and notes."""
    missing, unreadable, unsized, beyond = [], [], [], []
    for image, (height, width) in zip(images, image_sizes(images).tolist()):
        file = label_file(image)
        try:
            labels = read_labels(file, keypoint_numbers=keypoint_numbers)
        except (OSError, ValueError) as error:
            unreadable.append(f"{file} ({one_line(error)})")
            continue
        image_id = os.path.relpath(image, raw.folder)
        size = {"height": height, "width": width} if height else {}
        raw.images.append({"id": image_id, "file_name": image, **size})
        missing += [file] if labels is None else []
        unsized += [image] if labels and not size else []
        for label in labels or () if size else ():
            beyond += [f"{file}:{label.line}"] if label.is_beyond(TOLERANCE) else []
            raw.annotations.append({"image_id": image_id, **label.in_pixels(width, height)})
    raw.notes += example(
        unreadable, "label files cannot be read and are left out with their images"
    )
    raw.notes += example(missing, "images have no label file, which means no objects")
    raw.notes += example(unsized, "images cannot be read and lose their labels")
    raw.notes += example(beyond, "boxes leave the image: they must be fractions of it, 0 to 1")
