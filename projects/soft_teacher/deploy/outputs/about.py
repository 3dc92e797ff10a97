"""What the writers of all formats share."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from ..detections import Detections

__all__ = ["About", "Rows", "link_image", "new_folder", "write_items"]

# Reads all detections, one image at a time; called once for every pass over them.
Rows = Callable[[], Iterator[Detections]]
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class About:
    """What is the same for all images.

    Attributes:
        folder: of the output.
        root: folder that the images are in, or below.
        categories: COCO's, by class number.
        info: of the predictions: weights, network and so on.
        variance_thresh: boxes of a smaller variance are stable.
    """

    folder: Path
    root: str
    categories: list[dict]
    info: dict = field(default_factory=dict)
    variance_thresh: float = 0.02

    @property
    def class_names(self) -> list[str]:
        """By class number."""
        return [category["name"] for category in self.categories]

    def below_root(self, file: str) -> str:
        """A file's path from the root, with slashes."""
        return Path(os.path.relpath(file, self.root)).as_posix()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name, and the place of an older one, when all is in it."""
    made = path.parent / UNFINISHED / path.name
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        shutil.rmtree(path, ignore_errors=True)
        os.replace(made, path)
    finally:
        shutil.rmtree(made.parent, ignore_errors=True)


def link_image(file: str, path: Path) -> None:
    """Puts an image where a format wants it, as a link, or a copy where there are no links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(file)
    except OSError:
        shutil.copyfile(file, path)


def write_items(file: TextIO, items: Iterable[dict]) -> None:
    """A JSON list, an item a line, of which one at a time is in memory."""
    file.write("[")
    for number, item in enumerate(items):
        file.write(",\n" if number else "\n")
        file.write(json.dumps(item))
    file.write("\n]")
