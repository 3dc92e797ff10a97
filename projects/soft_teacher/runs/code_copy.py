"""A copy of the code that trains, so that the checkout may change meanwhile."""

import os
import shutil
from pathlib import Path

from .record import PACKAGE, tree_digest

__all__ = ["copy_code"]

SUFFIXES = (".py", ".yaml")


def copy_code(folder: Path, package: Path = PACKAGE) -> Path:
    """Copies the package with its configs, once for each state of them.

    Args:
        folder: of all copies.

    Returns:
        the folder that the copy is in.
    """
    walk = os.walk(package, followlinks=True)  # in a checkout the configs are a link
    paths = [Path(place, name) for place, _, names in walk for name in names]
    files = [path for path in paths if path.suffix in SUFFIXES]
    home = folder / tree_digest(package, files)
    if not home.is_dir():
        partial = folder / f"{home.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        for path in files:
            target = partial / path.relative_to(package.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        partial.rename(home)
    return home
