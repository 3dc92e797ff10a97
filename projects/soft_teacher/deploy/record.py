"""predictions.jsonl: what has been done, a line for each image as soon as its detections are known.

All other files are made of it. A line that a killed process left unfinished is removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ..utils.errors import ConfigError
from .detections import Detections

__all__ = ["RECORD", "Record"]

RECORD = "predictions.jsonl"
Key = tuple[str, int | None]


class Record:
    """An open record, to which lines are appended; used as a context.

    Attributes:
        names: file -> name of the images that are in it.
    """

    def __init__(self, folder: Path, settings: dict, *, resume: bool):
        """
        Args:
            folder: of the output.
            settings: what predictions depend on, JSON's types.
            resume: append to the record that is there, if any.

        Raises:
            ConfigError: there is a record and it is not to be resumed, was made with other
                settings, or is none.
            OSError: it cannot be read or written.
        """
        self._path = folder / RECORD
        self._places: dict[Key, int] = {}
        self.names: dict[str, str] = {}
        if self._path.exists() and not resume:
            raise ConfigError(
                f"--output '{folder}' already holds predictions: add --resume to go on, or name "
                "another folder"
            )
        self._file = open(self._path, "a+b")
        try:
            self._open(settings)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *error) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __getitem__(self, key: Key) -> Detections:
        """Of a file and, in a video, a number of a frame."""
        self._file.flush()
        with open(self._path, "rb") as file:
            file.seek(self._places[key])
            return Detections(**json.loads(file.readline()))

    def append(self, found: Detections) -> None:
        """Writes a line."""
        self._note(found, self._file.seek(0, os.SEEK_END))
        self._file.write(_line(found.as_dict()))
        self._file.flush()

    def read(self) -> Iterator[Detections]:
        """All lines in order, one at a time."""
        self._file.flush()
        with open(self._path, "rb") as file:
            next(file)
            for line in file:
                yield Detections(**json.loads(line))

    def _open(self, settings: dict) -> None:
        self._file.seek(0)
        head = self._file.readline()
        if not head.endswith(b"\n"):  # a new file, or one whose first line was cut
            self._file.truncate(0)
            self._file.write(_line({"settings": settings}))
            return
        self._compare(head, settings)
        place = self._file.tell()
        for line in iter(self._file.readline, b""):
            found = _whole(line)
            if found is None:
                self._file.truncate(place)
                return
            self._note(found, place)
            place = self._file.tell()

    def _compare(self, head: bytes, settings: dict) -> None:
        try:
            found = json.loads(head)["settings"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._path} is no record of predictions: remove it") from error
        wanted = json.loads(json.dumps(settings))
        for key in wanted:
            if found.get(key) != wanted[key]:
                raise ConfigError(
                    f"--resume: {self._path.parent} was predicted with another {key}: use the same "
                    "one, or name another folder"
                )

    def _note(self, found: Detections, place: int) -> None:
        self._places[found.file, found.frame] = place
        self.names[found.file] = found.name


def _whole(line: bytes) -> Detections | None:
    """A line's detections; None if it was not written to its end."""
    try:
        return Detections(**json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError):
        return None


def _line(value: dict) -> bytes:
    # Variances may be infinite or NaN, which Python's JSON reads and writes.
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
