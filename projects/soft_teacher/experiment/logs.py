"""Detectron2's logs, in files whose disk may fill up."""

import logging
import os
from contextlib import suppress

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

__all__ = ["set_up_log"]

LOGGERS = ("detectron2", "fvcore", "soft_teacher")


def set_up_log(output_dir: str) -> None:
    """Logs our messages as Detectron2's are, after its ``default_setup``.

    What a full disk rejects is missing from the file only.
    """
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="soft_teacher")
    handlers = [h for name in LOGGERS for h in logging.getLogger(name).handlers]
    for handler in [h for h in handlers if isinstance(h, logging.StreamHandler)]:
        path = str(getattr(handler.stream, "name", ""))
        if path.startswith(os.path.join(output_dir, "log.txt")):
            handler.setStream(_LogFile(path))


class _LogFile:
    """Unbuffered: a buffer that cannot be flushed at exit would be an error."""

    def __init__(self, path: str):
        self._file = open(path, "ab", buffering=0)

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text.encode(errors="replace"))

    def flush(self) -> None:
        """Nothing: what was written is in the file."""
