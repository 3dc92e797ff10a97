"""Files of weights: read only if they are whole, run no code and hold finite numbers."""

import logging
import pickle
import re
import zipfile
from collections.abc import Callable

import numpy as np
import torch

from ..utils.errors import ConfigError, one_line

__all__ = ["BrokenCheckpoint", "UnusableFile", "check_pickle", "plain_reason", "read_checked"]

logger = logging.getLogger(__name__)

ARRAY_MODULES = ("numpy", "core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric")
ARRAY_NAMES = ("dtype", "ndarray", "_reconstruct", "scalar", "_frombuffer")
PICKLE_GLOBALS = {("collections", "OrderedDict"), ("_codecs", "encode")} | {
    (module if module == "numpy" else f"numpy.{module}", name)
    for module in ARRAY_MODULES
    for name in ARRAY_NAMES
}
# The same for torch.load: what rebuilds NumPy's arrays and scalars, under its names in NumPy 1 and
# 2, and the classes of the dtypes that hold plain values.
TORCH_GLOBALS = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"},
    *(
        (rebuild, f"numpy.{core}.multiarray.{rebuild.__name__}")
        for rebuild in (np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0])
        for core in ("core", "_core")
    ),
]


class UnusableFile(ConfigError):
    """A file of weights that cannot be used; the message is the reason, without the file's name."""


class BrokenCheckpoint(UnusableFile):
    """A file that is damaged, or holds no weights."""


def read_checked(filename: str, read: Callable[[str], dict]) -> dict:
    """Reads a file of weights of any format after the checks that the format allows.

    Args:
        read: reads the file into a dict whose "model" should be a state dict.

    Raises:
        BrokenCheckpoint: for damage, code, and weights that are missing or not finite.
        Exception: whatever else ``read`` raises for a file that is not of its format.
    """
    compared = _checksums_hold(filename)
    if filename.endswith(".pkl"):
        check_pickle(filename)
    with torch.serialization.safe_globals(TORCH_GLOBALS):
        checkpoint = read(filename)
    _check_weights(checkpoint["model"])
    if not compared:
        logger.info("'%s' keeps no checksums: checked for finite numbers only", filename)
    return checkpoint


def check_pickle(filename: str) -> None:
    """Raises BrokenCheckpoint if unpickling the file would do more than build arrays.

    Detectron2 unpickles .pkl weights without limits, and a pickle can run any code.
    """
    with open(filename, "rb") as file:
        _ArraysOnly(file, encoding="latin1").load()


def plain_reason(error: Exception) -> str:
    """A reader's error in one sentence, without torch's advice to disable its protection."""
    text = str(error)
    refused = re.search(r"(?:GLOBAL |Can only (?:build|create) .* got <class ')([^\s']+)", text)
    if refused:
        return f"it holds {refused[1]}; only tensors, NumPy arrays and plain values are accepted"
    text = text.split("WeightsUnpickler error:")[-1].split("\n\nCheck the documentation")[0]
    return " ".join(f"{type(error).__name__}: {text}".split()).split(". ")[0]


def _checksums_hold(filename: str) -> bool:
    """Whether a file has checksums, which torch writes by default and does not compare.

    Raises BrokenCheckpoint if one differs, or the zip file's own structure is damaged.
    """
    with open(filename, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # how torch.load tells, too
            return False
    try:
        with zipfile.ZipFile(filename) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if not any(member.CRC for member in members):
                return False
            # torch.load takes a member with this bit for a folder and leaves its tensor as it is.
            folders = [member.filename for member in members if member.external_attr & 0x10]
            damaged = folders[0] if folders else archive.testzip()
    except Exception as error:  # a damaged structure raises many kinds
        raise BrokenCheckpoint(f"is damaged: {one_line(error)}") from error
    if damaged is not None:
        raise BrokenCheckpoint(f"is damaged at {damaged!r}")
    return True


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds containers and NumPy arrays and refuses everything else."""

    def find_class(self, module, name):
        if (module, name) not in PICKLE_GLOBALS:
            raise BrokenCheckpoint(f"would run {module}.{name} if loaded; only arrays are accepted")
        return super().find_class(module, name)


def _check_weights(weights) -> None:
    """Raises BrokenCheckpoint unless it is a state dict of finite numbers."""
    if not isinstance(weights, dict) or not weights or not all(map(_is_weight, weights.items())):
        raise BrokenCheckpoint("holds no weights")
    for name, values in weights.items():
        if not torch.isfinite(torch.as_tensor(values)).all():
            raise BrokenCheckpoint(f"holds weights that are not finite, first in {name!r}")


def _is_weight(item) -> bool:
    name, values = item
    return isinstance(name, str) and isinstance(values, (torch.Tensor, np.ndarray))
