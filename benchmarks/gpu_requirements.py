"""Whether the packages of somebody else's environment have versions that we accept."""

import configparser
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from soft_teacher.utils.errors import ConfigError

__all__ = ["check_versions"]

# Builds of the same package; the import shows whether there is one.
OTHER_NAMES = {"opencv-python": "opencv-python-headless"}
# Those that the figures are about; others only have to import.
MEASURED = ("torch", "torchvision")


def check_versions(setup: Path) -> None:
    """Compares installed packages with setup.cfg; warns of those that hardly matter.

    Args:
        setup: the file; packages that are not installed under its names are left to the imports.

    Raises:
        ConfigError: PyTorch has a version that we do not run with.
    """
    config = configparser.ConfigParser()
    config.read(setup)
    for requirement in map(Requirement, config["options"]["install_requires"].split()):
        found = _version(requirement.name) or _version(OTHER_NAMES.get(requirement.name, ""))
        if found is None or requirement.specifier.contains(found, prereleases=True):
            continue
        line = f"{requirement.name} {found} is installed, setup.cfg asks for {requirement}"
        if requirement.name in MEASURED:
            raise ConfigError(f"{line}: prepare its wheel, do not name it in GPU_HAS")
        print(f"warning: {line}", file=sys.stderr)


def _version(name: str) -> str | None:
    try:
        return version(name) if name else None
    except PackageNotFoundError:
        return None
