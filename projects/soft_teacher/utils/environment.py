"""Names, in one line, the package that is missing from the environment or broken."""

import sys
import traceback
from contextlib import contextmanager

from .errors import BrokenPackage, one_line

__all__ = ["naming_broken_packages"]

OWN_NAME = __name__.partition(".")[0]
INSTALLER = "pip install -e ."
EXPORT = f"{INSTALLER}[export]"
INSTALLERS = {
    "detectron2": "python tools/install_detectron2.py",
    **dict.fromkeys(("onnx", "onnxruntime", "safetensors"), EXPORT),
}


@contextmanager
def naming_broken_packages():
    """Around imports: an error inside a third-party package becomes a single line about it.

    The BrokenPackage names the package and the command that installs it. If nothing catches it, the
    program ends with that line and no traceback.
    """
    try:
        yield
    except Exception as error:  # modules that meet an unknown version raise any kind
        package = _culprit(error)
        if package == OWN_NAME:
            raise
        _print_without_traceback(BrokenPackage)
        raise BrokenPackage(
            f"{package} cannot be imported ({one_line(error)}): "
            f"install it with {INSTALLERS.get(package, INSTALLER)}"
        ) from error


def _culprit(error: Exception) -> str:
    """The package that is missing, or else the innermost one whose module was being executed."""
    if isinstance(error, ImportError) and error.name:
        return error.name.partition(".")[0]
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [frame.f_globals for frame in frames if frame.f_code.co_name == "<module>"]
    packages = [module.get("__name__", OWN_NAME).partition(".")[0] for module in modules]
    return next((p for p in reversed(packages) if p not in sys.stdlib_module_names), OWN_NAME)


def _print_without_traceback(kind: type) -> None:
    usual = sys.excepthook

    def hook(found, error, trace) -> None:
        if issubclass(found, kind):
            print(f"error: {error}", file=sys.stderr)
        else:
            usual(found, error, trace)

    sys.excepthook = hook
