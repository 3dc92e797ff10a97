"""Names, in one line, the package that is missing from the environment or broken."""

import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

from .errors import BrokenPackage, one_line

__all__ = ["installer", "naming_broken_packages"]

OWN_NAME = __name__.partition(".")[0]
EXTRAS = {
    **dict.fromkeys(("sklearn", "skimage"), "demo"),
    **dict.fromkeys(("onnx", "onnxruntime", "safetensors"), "export"),
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
            f"{package} cannot be imported ({one_line(error)}): install it with "
            f"{installer(package)}"
        ) from error


def installer(package: str, root: Path = Path(__file__).resolve().parents[3]) -> str:
    """The command that installs a package that this one needs.

    Args:
        root: of the checkout, if this is one: there pip does not know the project by its name.
    """
    is_checkout = (root / "setup.cfg").is_file()
    if package == "detectron2":
        script = "install_detectron2.py"
        return f"python tools/{script}" if is_checkout else script
    extra = f"[{EXTRAS[package]}]" if package in EXTRAS else ""
    return f"pip install -e .{extra}" if is_checkout else f"pip install soft-teacher{extra}"


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
