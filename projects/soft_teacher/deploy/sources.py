"""What to predict on, as a list of files: images, folders, patterns, lists, or videos."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.datasets.listing import is_list, is_pattern, left_out_notes, listed
from ..utils.errors import ConfigError, one_line

__all__ = ["VIDEO_SUFFIXES", "Sources", "find_sources", "is_video"]

VIDEO_SUFFIXES = frozenset(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .webm .wmv".split())


@dataclass(frozen=True)
class Sources:
    """Files to predict on, of one kind.

    Attributes:
        files: absolute paths in a stable order, each once.
        root: the folder that all of them are in, or below.
        are_videos: whether they are videos; images otherwise.
        notes: about files that were left out, a line each.
    """

    files: list[str]
    root: str
    are_videos: bool
    notes: list[str]

    def names(self, known: Mapping[str, str]) -> dict[str, str]:
        """File -> its path below the root without the suffix, the same for no two files.

        Args:
            known: file -> the name that it has already.
        """
        names, used = {}, set(known.values())
        for file in self.files:
            name, suffix = os.path.splitext(os.path.relpath(file, self.root))
            if file not in known and name in used:  # a.jpg beside a.png
                name = f"{name}_{suffix.lstrip('.')}"
            while file not in known and name in used:
                name += "_"
            names[file] = known.get(file, name)
            used.add(names[file])
        return names


def is_video(path: str) -> bool:
    """Whether a file's name ends as a video's does."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def find_sources(paths: Sequence[str]) -> Sources:
    """
    Args:
        paths: of images, of folders, which are searched with their subfolders, patterns with
            ``*``, ``?``, ``[`` or ``**``, text files of an image a line, or videos.

    Raises:
        ConfigError: a path leads to nothing, or some are images and some are videos.
    """
    files: dict[str, None] = {}
    roots, notes = [], []
    for path in map(os.path.expanduser, paths):
        found, root, about = _files(path)
        files.update(dict.fromkeys(map(os.path.abspath, found)))
        roots.append(os.path.abspath(root))
        notes += about
    kinds = {is_video(file) for file in files}
    if len(kinds) != 1:
        raise ConfigError("--source names images and videos: predict on them one after the other")
    return Sources(list(files), os.path.commonpath(roots), kinds.pop(), notes)


def _files(path: str) -> tuple[list[str], str, list[str]]:
    """Files, the folder that they are in, and notes."""
    try:
        is_file = os.path.isfile(path)
        if is_file and not is_list(path):
            return [path], os.path.dirname(path), []
        if not is_file and not os.path.isdir(path) and not is_pattern(path):
            raise ConfigError(f"--source '{path}' does not exist")
        found, left_out = listed(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--source '{path}' cannot be read: {one_line(error)}") from error
    notes = left_out_notes(len(found), left_out)
    if not found:
        raise ConfigError(
            f"--source '{path}' has no images{''.join(f': {note}' for note in notes)}"
        )
    return found, path if os.path.isdir(path) else _common_folder(found), notes


def _common_folder(files: Sequence[str]) -> str:
    return os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
