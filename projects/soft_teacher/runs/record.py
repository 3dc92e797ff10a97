"""What the folder of a run remembers: which run it is, by which code, and whether it finished."""

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..utils.atomic import atomic_write

__all__ = ["PACKAGE", "Record", "code_digest", "file_digest", "text_digest", "tree_digest"]

RECORD = "record.json"
PACKAGE = Path(__file__).resolve().parents[1]
# Parts of the package that no run depends on; what a config says is compared key by key.
WITHOUT_EFFECT = ("analysis", "model_zoo")
DIGITS = 12


@dataclass
class Record:
    identity: dict[str, str]  # name -> value of everything but the code that decides the result
    code: list[str] = field(default_factory=list)  # digests of all code that trained, in order
    seconds: float = 0.0  # run time of its processes
    finished: bool = False  # whether the last step was done and evaluated

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """The folder's record, if it has one."""
        path = folder / RECORD
        return cls(**json.loads(path.read_text())) if path.is_file() else None

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(str(folder / RECORD)) as file:
            file.write(json.dumps(asdict(self), indent=1) + "\n")


@functools.cache
def code_digest(package: Path = PACKAGE) -> str:
    """A short checksum of the package's code as far as runs depend on it.

    It is read once: a checkout may change while a process starts runs of a copy of it.
    """
    paths = package.rglob("*.py")
    return tree_digest(
        package, [p for p in paths if p.relative_to(package).parts[0] not in WITHOUT_EFFECT]
    )


def tree_digest(root: Path, paths: Iterable[Path]) -> str:
    """A short checksum of names and contents of files below a folder."""
    lines = (f"{p.relative_to(root).as_posix()} {file_digest(p)}" for p in sorted(paths))
    return text_digest("\n".join(lines))


def file_digest(path: Path) -> str:
    """A short checksum of a file's contents."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def text_digest(text: str) -> str:
    """A short checksum."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
