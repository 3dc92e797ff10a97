#!/usr/bin/env python
"""Print the lowest versions that setup.cfg accepts, as constraints for pip."""

import configparser
import re
import sys
from pathlib import Path

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"
OWN = re.compile(r"soft-teacher\[\w+\]")
REQUIREMENT = re.compile(r"(?P<name>[\w-]+)>=(?P<lowest>[\w.]+)(,<[\w.]+)?")
# The Makefile takes OpenCV's build without windows where the other does not load.
SAME_VERSION = {"opencv-python": "opencv-python-headless"}


def lowest_versions(setup=SETUP):
    """Return one ``name==version`` per requirement, extras included.

    Raises:
        SystemExit: one line about a requirement without a lower bound.
    """
    config = configparser.ConfigParser()
    config.read(setup)
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = []
    for requirement in "\n".join(lists).split():
        if OWN.fullmatch(requirement):
            continue
        match = REQUIREMENT.fullmatch(requirement)
        if not match:
            sys.exit(f"{setup}: {requirement} has no lower bound: write NAME>=VERSION")
        names = filter(None, (match["name"], SAME_VERSION.get(match["name"])))
        lines += [f"{name}=={match['lowest']}" for name in names]
    return lines


if __name__ == "__main__":
    print(*lowest_versions(), sep="\n")
