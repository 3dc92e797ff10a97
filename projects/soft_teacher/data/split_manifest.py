"""A split of a dataset as a value, and as a small JSON file that tells when it was changed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ..errors import ConfigError, one_line

__all__ = ["Split", "read_manifest", "write_manifest"]


@dataclass(frozen=True)
class Split:
    """A division of a dataset's images; both id tuples keep the order of the source list.

    Attributes:
        source: name or JSON of the dataset, for the reader; it is part of the checksum.
        family: "stac", "without_replacement" or "unbiased_teacher".
        percent, count: what was asked for; exactly one of them is set.
        fold: the seed, or the fold of the index file.
        labeled, unlabeled: image ids.
    """

    source: str
    family: str
    percent: float | None
    count: int | None
    fold: int
    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """Checksum over every field."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(split: Split, path: Path | str) -> Path:
    """Write a split as JSON with its checksum, all or nothing; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({**asdict(split), "sha256": split.sha256}) + "\n")
    os.replace(temporary, path)
    return path


def read_manifest(path: Path | str) -> Split:
    """Read what ``write_manifest`` wrote.

    Raises:
        ConfigError: the file is missing, is no manifest, or was changed since.
    """
    try:
        with PathManager.open(str(path)) as file:
            fields = json.load(file)
        claimed = fields.pop("sha256")
        ids = {key: tuple(fields[key]) for key in ("labeled", "unlabeled")}
        split = Split(**{**fields, **ids})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no split manifest: {one_line(error)}") from error
    if split.sha256 != claimed:
        raise ConfigError(f"{path} was changed after it was written: make the split again")
    return split
