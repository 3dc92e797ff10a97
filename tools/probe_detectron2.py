#!/usr/bin/env python
"""Print the folder of the Detectron2 that this Python imports; exit with the reason if it cannot.

``python -P`` keeps the folder of this script, which is on no other program's path, out of it.
"""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path

PACKAGE = "detectron2"
# What Soft Teacher uses; they import the rest.
MODULES = ("checkpoint", "data", "engine", "evaluation", "modeling", "solver")
REQUIREMENTS = "pip install -e ."


def probe():
    """Return the folder, with a remark where other packages are at fault; exit if it is at fault.

    Raises:
        SystemExit: one line: the folder, if there is one, and why it cannot be imported.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:  # a folder without __init__.py is no package
        sys.exit(f"No module named '{PACKAGE}'")
    folder = Path(spec.origin).parent
    try:
        for module in MODULES:
            importlib.import_module(f"{PACKAGE}.{module}")
    except Exception as error:  # a tree that meets newer packages than it knows raises any kind
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if at_fault(folder, error):
            sys.exit(f"{folder}: {reason}")
        return f"{folder}, but other packages are missing or broken ({reason}): {REQUIREMENTS}"
    return str(folder)


def at_fault(folder, error):
    """Whether Detectron2 is incomplete, or broke while one of its own modules was being run."""
    if isinstance(error, ModuleNotFoundError):
        return (error.name or "").partition(".")[0] == PACKAGE
    frames = traceback.extract_tb(error.__traceback__)
    module = [frame.filename for frame in frames if frame.name == "<module>"][-1]
    return Path(module).is_relative_to(folder)


if __name__ == "__main__":
    print(probe())
