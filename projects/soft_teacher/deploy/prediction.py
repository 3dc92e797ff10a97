"""Predicts on any number of files, and writes files of what was found; goes on where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from ..data.images.image import UnreadableImage
from ..utils.errors import ConfigError
from .confidence import Confidence
from .detections import Detections
from .outputs import DRAWN, FORMATS, About
from .outputs.pictures import draw, write_picture
from .outputs.review import MARGIN
from .predictor import Prediction, Predictor
from .record import Record
from .sources import Sources
from .video import SUFFIXES, Frames, VideoWriter

__all__ = ["Summary", "predict", "review_margin"]

logger = logging.getLogger(__name__)

# What a video can become: the other formats need files of images.
OF_VIDEOS = ("csv", "video")


@dataclass(frozen=True)
class Summary:
    """
    Attributes:
        images: that were read, or frames.
        boxes: that were kept.
        unreadable: files that could not be read.
        written: how to name each file or folder, as data where it is a dataset.
    """

    images: int
    boxes: int
    unreadable: int
    written: list[str]


def predict(
    predictor: Predictor,
    sources: Sources,
    folder: Path,
    *,
    formats: Sequence[str],
    confidence: Confidence,
    settings: dict,
    resume: bool = False,
    codec: str = "mp4v",
) -> Summary:
    """
    Args:
        predictor: reports boxes down to :data:`.outputs.review.MARGIN` below ``confidence``.
        folder: of the output, which nobody else writes to.
        formats: of :data:`.outputs.FORMATS` and :data:`.outputs.DRAWN`.
        confidence: boxes above it are kept.
        settings: what the predictions depend on; a resume compares them.
        resume: leave out what the folder's record has.
        codec: of videos.

    Raises:
        ConfigError: the formats do not suit the sources, the folder holds other predictions, or no
            file can be read.
        OSError: the folder cannot be written.
    """
    _check_formats(formats, sources)
    about = About(
        folder,
        sources.root,
        predictor.categories,
        info=settings,
        variance_thresh=predictor.variance_thresh,
    )
    settings = {**settings, "folder of the sources": sources.root}
    with Record(folder, settings, resume=resume) as record:
        run = _Run(predictor, confidence, record, about, codec)
        names = sources.names(record.names)
        step = run.predict_videos if sources.are_videos else run.predict_images
        step(names, drawn=bool(set(formats) & set(DRAWN)))
        summary = _counted(record)
        if not summary.images:
            raise ConfigError(f"none of {summary.unreadable} files can be read")
        written = [FORMATS[name](record.read, about) for name in formats if name in FORMATS]
    drawn = [str(folder / _drawn_folder(sources))] if set(formats) & set(DRAWN) else []
    return Summary(summary.images, summary.boxes, summary.unreadable, drawn + written)


@dataclass
class _Run:
    predictor: Predictor
    confidence: Confidence
    record: Record
    about: About
    codec: str

    def predict_images(self, names: dict[str, str], *, drawn: bool) -> None:
        """Files that the record lacks; pictures of the others where they are missing."""
        todo = [file for file in names if (file, None) not in self.record]
        if drawn:
            self._draw_known([file for file in names if (file, None) in self.record])
        found = self.predictor.stream(todo)
        for prediction in tqdm(found, "images", len(names), initial=len(names) - len(todo)):
            self._take(prediction, names[prediction.source], drawn)

    def predict_videos(self, names: dict[str, str], *, drawn: bool) -> None:
        """Frames that the record lacks; a video that is complete is left as it is."""
        for file, name in names.items():
            try:
                self._predict_video(file, name, drawn)
            except UnreadableImage as error:
                self._note_unreadable(Detections(file, name, unreadable=str(error)))

    def _take(self, prediction: Prediction, name: str, drawn: bool) -> None:
        file = prediction.source
        if prediction.error:
            self._note_unreadable(Detections(file, name, unreadable=prediction.error))
            return
        found = self._kept(prediction.instances, file, name)
        if drawn:  # before the line that says that this image is done
            self._draw(found, prediction.image)
        self.record.append(found)

    def _kept(self, found: Instances, file: str, name: str, frame=None) -> Detections:
        distances = self.confidence.distances(found)
        near = int((distances.abs() < MARGIN).sum())
        return Detections.of(found[distances > 0], file, name, near=near, frame=frame)

    def _note_unreadable(self, found: Detections) -> None:
        if (found.file, None) not in self.record:
            logger.warning("left out: %s", found.unreadable)
            self.record.append(found)

    def _draw(self, found: Detections, image: np.ndarray) -> None:
        picture = draw(self._rgb(image), found, self.about.class_names)
        write_picture(self._picture(found.name), picture)

    def _draw_known(self, files: Sequence[str]) -> None:
        for file in files:
            found = self.record[file, None]
            if not found.unreadable and not self._picture(found.name).exists():
                self._draw(found, self.predictor.read(file))

    def _picture(self, name: str) -> Path:
        return self.about.folder / "pictures" / f"{name}.jpg"

    def _rgb(self, image: np.ndarray) -> np.ndarray:
        return image if self.predictor.image_format == "RGB" else image[:, :, ::-1]

    def _predict_video(self, file: str, name: str, drawn: bool) -> None:
        target = self.about.folder / "videos" / name
        if drawn and any(target.with_name(target.name + s).exists() for s in SUFFIXES):
            return
        frames = Frames(file)
        known = sum(1 for _ in self._known_frames(file))
        pictures = self._frames(frames, file, name, known)
        bar = tqdm(pictures, Path(file).name, frames.count)
        if not drawn:
            for _ in bar:
                pass
            return
        options = {"codec": self.codec, "rate": frames.rate, "size": frames.size}
        with VideoWriter(target, **options) as video:
            for image, found in bar:
                picture = draw(image[:, :, ::-1], found, self.about.class_names)
                video.write(picture[:, :, ::-1])

    def _known_frames(self, file: str) -> Iterator[int]:
        frame = 0
        while (file, frame) in self.record:
            yield frame
            frame += 1

    def _frames(self, frames: Frames, file: str, name: str, known: int):
        """(BGR image, detections) of each frame; the first ones are in the record."""
        images = iter(frames)
        for frame, image in enumerate(islice(images, known)):
            yield image, self.record[file, frame]
        turned = (self._turned(image) for image in images)
        for frame, prediction in enumerate(self.predictor.stream(turned), known):
            found = self._kept(prediction.instances, file, name, frame)
            self.record.append(found)
            yield self._turned(prediction.image), found

    def _turned(self, image: np.ndarray) -> np.ndarray:
        """BGR to the predictor's format, and back."""
        return image if self.predictor.image_format == "BGR" else image[:, :, ::-1].copy()


def review_margin(confidence: Confidence, lowest: float) -> Confidence:
    """What a predictor must report for :func:`predict` to see what is nearly kept."""
    return confidence.lowered(MARGIN, lowest)


def _check_formats(formats: Sequence[str], sources: Sources) -> None:
    fitting = OF_VIDEOS if sources.are_videos else [*FORMATS, "pictures"]
    for name in formats:
        if name not in fitting:
            what = "a video" if sources.are_videos else "images"
            raise ConfigError(f"--format {name} is not for {what}: use {', '.join(fitting)}")


def _drawn_folder(sources: Sources) -> str:
    return "videos" if sources.are_videos else "pictures"


def _counted(record: Record) -> Summary:
    images = boxes = unreadable = 0
    for found in record.read():
        unreadable += bool(found.unreadable)
        images += not found.unreadable
        boxes += len(found.boxes)
    return Summary(images, boxes, unreadable, [])
