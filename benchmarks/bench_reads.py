"""Counts host-device syncs of a step, by the file that causes them."""

import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import PurePath

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["DeviceReads", "reads"]

WAITS = {
    *("item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "unique", "nms"),
    *("__bool__", "__int__", "__float__", "__index__"),
}
INDEXING = {"__getitem__", "__setitem__"}
PACKAGES = ("soft_teacher", "detectron2")


class DeviceReads(TorchFunctionMode):
    """Counts the calls that would wait for a GPU; it runs on any device, without one.

    A call belongs to the innermost frame of Detectron2 or of this package. Calls of Detectron2's
    compiled functions (``torch.jit``) are not seen.

    Attributes:
        by_file: Counter, "package/path.py" -> calls.
    """

    def __init__(self):
        super().__init__()
        self.by_file = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if waits(func, args):
            self.by_file[asking_file()] += 1
        return func(*args, **(kwargs or {}))

    def of(self, package: str) -> int:
        """All calls of a package."""
        return sum(n for file, n in self.by_file.items() if file.startswith(package + "/"))


def waits(func, args: tuple) -> bool:
    """Whether a call has a result whose size or value the host must know."""
    name = getattr(func, "__name__", "").split(".")[0]
    if name in INDEXING:
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        masks = [isinstance(p, torch.Tensor) and p.dtype == torch.bool for p in places]
        # A single value is written without asking where.
        return any(masks) and (name == "__getitem__" or isinstance(args[2], torch.Tensor))
    return name in WAITS


def asking_file() -> str:
    """The innermost frame of one of the packages on the stack."""
    for frame in reversed(traceback.extract_stack()):
        parts = PurePath(frame.filename).parts
        for package in PACKAGES:
            if package in parts[:-1]:
                return "/".join(parts[len(parts) - 1 - parts[::-1].index(package) :])
    return "elsewhere"


def reads(step, device: str) -> Counter:
    """File -> host-device syncs of a step: those of CUDA, or elsewhere the calls that would."""
    with synchronisations() if device == "cuda" else DeviceReads() as found:
        step()
    return getattr(found, "by_file", found)


@contextmanager
def synchronisations():
    """Yields a Counter, file -> syncs that CUDA reports; needs a GPU."""
    found = Counter()

    def note(message, category, filename, lineno, file=None, line=None):
        if "synchroniz" in str(message):
            found[asking_file()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
