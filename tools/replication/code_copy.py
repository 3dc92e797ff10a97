"""A copy of the code that trains, so that the checkout may change meanwhile."""

import shutil
from pathlib import Path

from .record import tree_digest
from .run import REPOSITORY

__all__ = ["copy_code"]

PARTS = ("projects", "configs", "tools", "train_net.py")


def copy_code(folder: Path, repository: Path = REPOSITORY) -> Path:
    """Copies package, configs and scripts, once for each state of them.

    Args:
        folder: of all copies.

    Returns:
        the root of the copy.
    """
    files = [
        path
        for part in PARTS
        for path in (repository / part, *(repository / part).rglob("*"))
        if path.is_file() and path.suffix in (".py", ".yaml")
    ]
    root = folder / tree_digest(repository, files)
    if not root.is_dir():
        partial = folder / f"{root.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for path in files:
            target = partial / path.relative_to(repository)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        partial.rename(root)
    return root
