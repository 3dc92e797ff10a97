"""Whether the packages of an environment that others have made are of versions that we accept."""

import configparser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from soft_teacher.errors import ConfigError

__all__ = ["check_versions"]

# Builds of the same package; whether any is there shows when it is imported.
OTHER_NAMES = {"opencv-python": "opencv-python-headless"}


def check_versions(setup: Path) -> None:
    """Raises ConfigError for the first installed version that is outside the range of setup.cfg.

    Args:
        setup: the file; what is not installed under its name is left to the imports.
    """
    config = configparser.ConfigParser()
    config.read(setup)
    for requirement in map(Requirement, config["options"]["install_requires"].split()):
        found = _version(requirement.name) or _version(OTHER_NAMES.get(requirement.name, ""))
        if found is not None and not requirement.specifier.contains(found, prereleases=True):
            raise ConfigError(
                f"{requirement.name} {found} is installed, setup.cfg asks for {requirement}: "
                f"prepare its wheel, without naming it in GPU_HAS ({setup.parent / 'Makefile'})"
            )


def _version(name: str) -> str | None:
    try:
        return version(name) if name else None
    except PackageNotFoundError:
        return None
