"""A split of a dataset as a value, and as a small JSON file that shows whether it was changed.

The labeled ids are in the file as they are, the many unlabeled ones as the first id
followed by the steps from each id to the next: in ascending order most steps have one digit.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ....utils.atomic import atomic_write
from ....utils.errors import ConfigError, one_line

__all__ = ["Split", "read_manifest", "store_manifest", "write_manifest"]


@dataclass(frozen=True)
class Split:
    """A division of a dataset's images.

    Attributes:
        source: name or JSON of the dataset, for the reader; it is part of the checksum.
        family: "stac", "without_replacement", "unbiased_teacher", "shots" or "full".
        percent, count: what was asked for; exactly one of them is set. The count is of images, of
            samples for "stac", and of images for each class for "shots".
        fold: the seed, or the fold of the index file; None for "full".
        labeled, unlabeled: image ids, ascending as Detectron2 loads a COCO JSON.
    """

    source: str
    family: str
    percent: float | None
    count: int | None
    fold: int | None
    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """Checksum over every field, with both tuples in their order."""
        text = json.dumps(vars(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(split: Split, path: Path | str) -> Path:
    """Write a split as JSON with its checksum, one field a line, all or nothing.

    Returns:
        the path.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"sha256": split.sha256, **vars(split)}
    fields["unlabeled_steps"] = _steps(fields.pop("unlabeled"))
    lines = (f'"{k}":{json.dumps(v, separators=(",", ":"))}' for k, v in fields.items())
    with atomic_write(str(path)) as file:
        file.write("{" + ",\n".join(lines) + "}\n")
    return path


def store_manifest(split: Split, path: Path, *, force: bool = False) -> str:
    """Write a split unless the file has it already.

    Args:
        force: replace a file that differs.

    Returns:
        "written" or "kept".

    Raises:
        ConfigError: the file differs, and ``force`` is not given.
        OSError: see :func:`write_manifest`.
    """
    if path.exists():
        try:
            if read_manifest(path) == split:
                return "kept"
        except ConfigError:
            pass  # a damaged file is one that differs
        if not force:
            raise ConfigError(
                f"{path} exists and differs: pass --force to replace it, or another --output"
            )
    write_manifest(split, path)
    return "written"


def read_manifest(path: Path | str) -> Split:
    """Read what ``write_manifest`` wrote.

    Raises:
        ConfigError: the file is missing, is no manifest, or was changed since.
    """
    try:
        with PathManager.open(str(path)) as file:
            fields = json.load(file)
        claimed = fields.pop("sha256")
        unlabeled = tuple(itertools.accumulate(fields.pop("unlabeled_steps")))
        split = Split(**{**fields, "labeled": tuple(fields["labeled"]), "unlabeled": unlabeled})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no split manifest ({one_line(error)}): make the split again"
        ) from error
    if split.sha256 != claimed:
        raise ConfigError(f"{path} was changed after it was written: make the split again")
    return split


def _steps(ids: tuple[int, ...]) -> list[int]:
    return [after - before for before, after in zip((0, *ids), ids)]
