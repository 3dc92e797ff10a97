"""Whether the packages of an environment that others have made are of versions that we accept."""

import configparser
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from soft_teacher.utils.errors import ConfigError

__all__ = ["check_versions"]

# Builds of the same package; whether any is there shows when it is imported.
OTHER_NAMES = {"opencv-python": "opencv-python-headless"}
# What the figures are about; others only have to import.
MEASURED = ("torch", "torchvision")


def check_versions(setup: Path) -> None:
    """Holds what is installed to setup.cfg, and prints a line where that matters little.

    Args:
        setup: the file; what is not installed under its name is left to the imports.

    Raises:
        ConfigError: PyTorch is of a version that we do not run with.
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
