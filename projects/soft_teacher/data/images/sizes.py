"""Sizes of images that come without a JSON: read from the files' headers once, then remembered."""

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
from tqdm import tqdm

from ...utils.atomic import atomic_write
from .image import UnreadableImage, image_size

__all__ = ["cache_folder", "image_sizes"]

logger = logging.getLogger(__name__)

# Headers wait for the disk, not for the processor.
THREADS = 16
WORTH_A_BAR = 2000


def cache_folder() -> Path:
    """``soft_teacher`` in $XDG_CACHE_HOME, by default in ~/.cache."""
    return Path(os.getenv("XDG_CACHE_HOME") or "~/.cache").expanduser() / "soft_teacher"


def image_sizes(files: Sequence[str]) -> np.ndarray:
    """Heights and widths of images, upright.

    Headers are read once; a cache in :func:`cache_folder` knows them until the file changes.

    Returns:
        int64 (N, 2), height and width in pixels; (0, 0) for an unreadable file.
    """
    cache = cache_folder() / f"sizes-{_digest(files)}.json"
    known = _read(cache)
    stamps = [_stamp(file) for file in files]
    new = [n for n, stamp in enumerate(stamps) if known.get(files[n], [None])[0] != stamp]
    if new:
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = pool.map(_size, [files[n] for n in new])
            bar = tqdm(sizes, "image sizes", len(new), disable=len(new) < WORTH_A_BAR)
            known.update({files[n]: [stamps[n], *size] for n, size in zip(new, bar)})
        _write(cache, known)
    return np.array([known[file][1:] for file in files], dtype=np.int64).reshape(-1, 2)


def _size(file: str) -> List[int]:
    try:
        return list(image_size(file))
    except UnreadableImage:
        return [0, 0]


def _stamp(file: str) -> str:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_mtime_ns}-{status.st_size}"


def _digest(files: Sequence[str]) -> str:
    folders = sorted({os.path.dirname(os.path.abspath(file)) for file in files})
    return hashlib.sha256("\n".join(folders).encode()).hexdigest()[:16]


def _read(cache: Path) -> Dict[str, list]:
    try:
        return json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}


def _write(cache: Path, known: Dict[str, list]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(str(cache)) as file:
            file.write(json.dumps(known))
    except OSError as error:
        logger.warning("image sizes cannot be remembered: %s", error)
