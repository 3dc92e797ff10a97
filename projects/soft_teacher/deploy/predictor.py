"""Detections of a trained network on images of any kind::

predictor = Predictor("output/my_run")
found = predictor("photo.jpg")
names = [predictor.class_names[c] for c in found.pred_classes]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from detectron2.structures import Instances

from ..data.images.image import UnreadableImage, read_image
from ..data.multi_scale import MultiScale
from ..distributed.device import cores
from ..evaluation.evaluate import NETWORKS
from ..experiment.experiment import Experiment
from ..utils.checks import Number, check_choice, shown
from ..utils.errors import ConfigError
from .ahead import ahead
from .confidence import Confidence
from .detector import Detector
from .tiles import merge_tiles, tile_windows
from .trained_run import load_run

__all__ = ["Prediction", "Predictor"]

Image = np.ndarray | str | os.PathLike
# Views that a CPU looks at together have at most so many pixels: larger ones gain nothing.
CPU_PIXELS = 2**19
# Batches that are decoded before they are needed; one image where it is cut into tiles.
BATCHES_AHEAD = 2
THREADS = 4


@dataclass(frozen=True)
class Prediction:
    """What was found in one of many images.

    Attributes:
        source: the image as it was named.
        image: uint8 (H, W, 3) in the predictor's ``image_format``; None if it cannot be read.
        instances: see :class:`Predictor`; None if it cannot be read.
        error: why it cannot be read.
    """

    source: Image
    image: np.ndarray | None = None
    instances: Instances | None = None
    error: str = ""


class Predictor:
    """A trained network with its config's view of an image.

    Images are files, read as training reads them (upright by EXIF, grey and 16 bits converted), or
    arrays, uint8 (H, W, 3) with the channels in the order of ``image_format``. Detections are
    Detectron2's Instances on the CPU, in absolute pixels of the image: ``pred_boxes`` (XYXY),
    ``pred_classes``, ``scores``, ``pred_masks`` (n, H, W) bool where the detector makes them, and
    ``variances`` (n,) where they are measured.

    Attributes:
        class_names: by class number.
        categories: COCO's, in the same order.
        image_format: "BGR" or "RGB", INPUT.FORMAT of the config.
        confidence: boxes above it are reported, see :class:`.confidence.Confidence`.
        lowest: the score below which the detector itself drops boxes.
        variance_thresh: tau_var of the run: boxes of a smaller variance are stable.
        multi_scale: the views that are looked at; None for one.
        weights: where they were loaded from.
    """

    def __init__(
        self,
        config: str | os.PathLike,
        weights: str | os.PathLike | None = None,
        *,
        network: str = "teacher",
        device: str | None = None,
        confidence: float | Mapping[str, float] | None = None,
        classes: Sequence[str] | str | None = None,
        batch_size: int = 8,
        tile: int | None = None,
        overlap: float = 0.2,
        tta: bool = False,
        variances: bool = False,
        opts: Sequence[str] = (),
    ):
        """
        Args:
            config: a YAML or LazyConfig file, or the folder of a run.
            weights: a checkpoint; by default the folder's last one, or what the config names.
            network: "teacher" or "student".
            device: in place of the config's.
            confidence: boxes with a score above it are kept; class name -> score for single
                classes; all that the detector reports if None.
            classes: their names, or a file of them, if neither classes.json of the run nor its
                datasets are there.
            batch_size: images, or tiles, of one size that the detector looks at together.
            tile: side in pixels of the tiles that larger images are cut into; None for whole
                images.
            overlap: smallest share of a tile that its neighbour shows, too.
            tta: look at several views of an image, those of ``TEST.AUG`` in YAML and of
                ``dataloader.test_aug`` in a LazyConfig.
            variances: measure the box regression variance of the boxes (Eq. 7-9).
            opts: overrides in the config's language.

        Raises:
            ConfigError: naming the key and the fix.
        """
        check_choice("network", network, NETWORKS)
        Number(low=1, whole=True)("batch_size", batch_size)
        Number(low=16, whole=True, optional=True)("tile", tile)
        Number(low=0, high=0.9)("overlap", overlap)
        run = load_run(config, weights, device=device, classes=classes, opts=opts)
        model, mapper = run.trained.model, run.trained.mapper
        detector = getattr(model, network)
        self.categories = run.categories
        self.class_names = [category["name"] for category in run.categories]
        self.image_format = mapper.image_format
        self.weights = run.trained.weights
        self.lowest = model.family.score_floor(detector)
        self.variance_thresh = model.pseudo_labeler.variance_thresh
        self._words = run.experiment.words
        self._floor_parameter = model.family.score_floor_parameter
        self.confidence = self.confidence_of(confidence)
        self.multi_scale = _multi_scale(run.experiment) if tta else None
        self._detector = Detector(
            model.family, detector, multi_scale=self.multi_scale, variances=variances
        )
        self._mapper = mapper.whole() if tta else mapper
        self._batch_size = batch_size
        self._tile, self._overlap = tile, overlap

    def __call__(self, image: Image) -> Instances:
        """Detections in one image. Raises as :meth:`batch`."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[Image]) -> list[Instances]:
        """Detections per image; images of one size are looked at together.

        Raises:
            UnreadableImage: a file cannot be read.
            ConfigError: an array is no such image.
        """
        prepared = [self._prepared(image) for image in images]
        for p in prepared:
            if p.error:
                raise UnreadableImage(p.error)
        return self._detect(prepared)

    def stream(self, images: Iterable[Image]) -> Iterator[Prediction]:
        """Detections in any number of images, in their order and in constant memory.

        Images are decoded while the detector looks at those before them. One that cannot be read
        is a prediction with an ``error``.

        Raises:
            ConfigError: an array is no such image.
        """
        size = 1 if self._tile else self._batch_size
        depth = 1 if self._tile else BATCHES_AHEAD * size
        threads = max(1, min(THREADS, cores(), depth))
        prepared = ahead(self._prepared, images, threads=threads, depth=depth)
        while batch := list(islice(prepared, size)):
            found = iter(self._detect([p for p in batch if not p.error]))
            for p in batch:
                yield Prediction(p.source, p.image, None if p.error else next(found), p.error)

    def confidence_of(self, wanted: float | Mapping[str, float] | None) -> Confidence:
        """Thresholds as of the argument ``confidence``. Raises ConfigError for a mistake in it."""
        names, key = self.class_names, self._floor_parameter
        with self._words.spoken():
            return Confidence.of(wanted, names, lowest=self.lowest, key=key)

    def read(self, image: Image) -> np.ndarray:
        """The pixels of an image, uint8 (H, W, 3) in ``image_format``. Raises as :meth:`batch`."""
        if isinstance(image, (str, os.PathLike)):
            return read_image(os.fspath(image), self.image_format, self._mapper.max_pixels)
        is_array = isinstance(image, np.ndarray) and image.dtype == np.uint8
        if not (is_array and image.ndim == 3 and image.shape[2] == 3 and image.size):
            shape = f"{image.dtype} {image.shape}" if hasattr(image, "dtype") else shown(image)
            raise ConfigError(
                f"an image must be a path or an array, uint8 (H, W, 3) in {self.image_format} "
                f"order, got {shape}"
            )
        return image

    def to_supervision(self, found: Instances):
        """Instances as ``supervision.Detections``, with the names of the classes.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ConfigError("supervision is not installed: pip install supervision") from error
        classes = found.pred_classes.numpy()
        data = {"class_name": np.array([self.class_names[c] for c in classes], dtype=str)}
        if found.has("variances"):
            data["variance"] = found.variances.numpy()
        return Detections(
            xyxy=found.pred_boxes.tensor.numpy(),
            confidence=found.scores.numpy(),
            class_id=classes,
            mask=found.pred_masks.numpy() if found.has("pred_masks") else None,
            data=data,
        )

    def _prepared(self, image: Image) -> _Prepared:
        """An image that is read, cut into windows, and seen as the detector sees it."""
        try:
            pixels = self.read(image)
        except UnreadableImage as error:
            return _Prepared(image, error=str(error))
        height, width = size = pixels.shape[:2]
        if self._tile and max(size) > self._tile:
            return _Prepared(image, pixels, tile_windows(size, self._tile, self._overlap))
        return _Prepared(image, pixels, [(0, 0, width, height)], self._mapper.view_of(pixels))

    def _detect(self, prepared: Sequence[_Prepared]) -> list[Instances]:
        pieces = [(p, window) for p in prepared for window in p.windows]
        parts: dict[int, Instances] = {}
        for pass_ in self._passes(pieces):
            numbers, views = zip(*pass_)
            parts.update(zip(numbers, self._detector(views, measured=self.confidence.above)))
        found = iter([parts[number] for number in range(len(pieces))])
        return [self._merged(p, list(islice(found, len(p.windows)))) for p in prepared]

    def _passes(self, pieces) -> Iterator[list[tuple[int, dict]]]:
        """(number, view) of pieces whose views are of one size, so that none of them is padded.

        What is found in an image thus does not depend on the others.
        """
        waiting: dict[tuple, list] = {}
        for number, (p, window) in enumerate(pieces):
            view = p.view if p.view is not None else self._mapper.view_of(_crop(p.image, window))
            shape = tuple(view["image"].shape)
            same = waiting.setdefault(shape, [])
            same.append((number, view))
            if len(same) >= self._most(shape):
                yield waiting.pop(shape)
        yield from waiting.values()

    def _most(self, shape: tuple) -> int:
        if self._detector.device.type != "cpu":
            return self._batch_size
        return max(1, min(self._batch_size, CPU_PIXELS // (shape[1] * shape[2])))

    def _merged(self, prepared: _Prepared, parts: list[Instances]) -> Instances:
        if len(parts) == 1:
            found = parts[0]
        else:
            found = merge_tiles(parts, prepared.windows, prepared.image.shape[:2])
        return found[self.confidence.above(found)]


@dataclass(frozen=True)
class _Prepared:
    source: Image
    image: np.ndarray | None = None
    windows: Sequence[tuple[int, int, int, int]] = ()
    view: dict | None = None
    error: str = ""


def _multi_scale(experiment: Experiment) -> MultiScale:
    """Raises ConfigError for a LazyConfig that describes no views."""
    found = experiment.multi_scale()
    if found is None:
        raise ConfigError("tta needs dataloader.test_aug, which the LazyConfig does not have")
    return found


def _crop(image: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = window
    return np.ascontiguousarray(image[y0:y1, x0:x1])
