"""Frames of a video, and videos made of frames."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from ..data.images.image import UnreadableImage
from ..utils.errors import ConfigError
from .ahead import ahead

__all__ = ["SUFFIXES", "Frames", "VideoWriter"]

logger = logging.getLogger(__name__)

DEFAULT_RATE = 25.0
FRAMES_AHEAD = 8
# (codec, suffix of the file): what OpenCV's own builds can write, and what all can.
FALLBACKS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
SUFFIXES = (".mp4", ".avi")


class Frames:
    """A video's frames, decoded while earlier ones are looked at.

    Attributes:
        rate: frames per second.
        count: as the file promises; None if it does not.
        size: (height, width) in pixels.
    """

    def __init__(self, path: str):
        """
        Raises:
            UnreadableImage: OpenCV cannot read it.
        """
        self.path = path
        self._video = cv2.VideoCapture(path)
        is_read, first = self._video.read() if self._video.isOpened() else (False, None)
        if not is_read:
            self._video.release()
            raise UnreadableImage(f"{path}: OpenCV cannot read it as a video")
        rate, count = self._video.get(cv2.CAP_PROP_FPS), self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if math.isfinite(rate) and rate > 0 else DEFAULT_RATE
        self.count = int(count) if math.isfinite(count) and count > 0 else None
        self.size = first.shape[:2]
        self._first: np.ndarray | None = first

    def __iter__(self) -> Iterator[np.ndarray]:
        """BGR, uint8 (H, W, 3); once."""
        # A single thread, since a decoder has one place in the file.
        found = ahead(lambda _: self._next(), repeat(None), threads=1, depth=FRAMES_AHEAD)
        seen = 0
        try:
            for frame in found:
                if frame is None:
                    break
                seen += 1
                yield frame
        finally:
            found.close()
            self._video.release()
        if self.count is not None and seen < self.count:
            logger.warning("'%s': %d of %d frames can be read", self.path, seen, self.count)

    def _next(self) -> np.ndarray | None:
        if self._first is not None:
            frame, self._first = self._first, None
            return frame
        is_read, frame = self._video.read()
        return frame if is_read else None


class VideoWriter:
    """Writes frames to a video that takes its name when it is complete; used as a context.

    Attributes:
        path: of the complete video, whose suffix is that of the codec that worked.
    """

    def __init__(self, path: Path, *, codec: str, rate: float, size: tuple[int, int]):
        """
        Args:
            path: without the suffix.
            codec: four characters, as "mp4v"; others are tried if OpenCV cannot write it.
            rate: frames per second.
            size: (height, width).

        Raises:
            ConfigError: no codec works.
        """
        for name, suffix in dict.fromkeys([*((codec, s) for s in SUFFIXES), *FALLBACKS]):
            self.path = path.with_name(path.name + suffix)
            self._unfinished = path.with_name(f".{path.name}.unfinished{suffix}")
            self._unfinished.parent.mkdir(parents=True, exist_ok=True)
            self._video = _opened(self._unfinished, name, rate, size)
            if self._video is not None:
                if name != codec:
                    logger.warning("OpenCV cannot write the codec %s: using %s", codec, name)
                return
        raise ConfigError(f"--codec {codec}: OpenCV can write neither it nor any other")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._video.release()
        if kind is None:
            os.replace(self._unfinished, self.path)
        else:
            self._unfinished.unlink(missing_ok=True)

    def write(self, frame: np.ndarray) -> None:
        """A frame in BGR, uint8 (H, W, 3), of the video's size."""
        self._video.write(np.ascontiguousarray(frame))


def _opened(path: Path, codec: str, rate: float, size) -> cv2.VideoWriter | None:
    height, width = size
    code = cv2.VideoWriter_fourcc(*codec)
    video = cv2.VideoWriter(str(path), code, rate, (width, height))
    if video.isOpened():
        return video
    video.release()
    path.unlink(missing_ok=True)
    return None
