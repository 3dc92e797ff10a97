"""Hooks that draw what the teacher does while it trains. None of them changes a run."""

import logging
import os
from collections.abc import Callable, Sequence

import numpy as np
from detectron2.engine import HookBase
from PIL import Image

from ..engine.evaluation_hooks import Evaluation
from ..evaluation.examples import detect_examples, some_dicts
from ..modeling import SoftTeacher
from ..modeling.step_record import StepView
from ..utils.atomic import atomic_write
from ..utils.checks import check_not_negative
from ..utils.errors import one_line
from .training_pictures import training_picture
from .validation_pictures import validation_picture

__all__ = ["PictureFolder", "PictureHook", "ValidationPictureHook"]

logger = logging.getLogger(__name__)


class PictureFolder:
    """Writes pictures; why it fails is logged once, until it works again."""

    def __init__(self, path: str):
        """
        Args:
            path: made when it is needed.
        """
        self.path = path
        self._failing = False

    def save(self, picture: np.ndarray, name: str) -> None:
        """Writes an RGB image, uint8 (H, W, 3), as a PNG."""
        try:
            os.makedirs(self.path, exist_ok=True)
            with atomic_write(os.path.join(self.path, name), "wb") as file:
                Image.fromarray(picture).save(file, format="PNG")
        except OSError as error:
            if not self._failing:
                reason = one_line(error)
                logger.error("no picture in %s (%s); training continues", self.path, reason)
            self._failing = True
        else:
            self._failing = False


class PictureHook(HookBase):
    """Draws a step in every ``period``: what the teacher saw, and what the student learned from.

    It is the first unlabeled image of this rank at the first step, from a multiple of ``period``
    on, that has one. Other steps are not observed.
    """

    def __init__(
        self,
        model: SoftTeacher,
        folder: str,
        *,
        period: int,
        class_names: Sequence[str] = (),
        image_format: str = "BGR",
    ):
        """
        Args:
            model: not wrapped for the ranks.
            folder: gets ``step_0001234.png`` and so on; made when it is needed.
            period: steps between pictures; 0 draws none.
            class_names, image_format: see :func:`.training_figure`.
        """
        check_not_negative("PictureHook.period", period)
        self.model = model
        self.files = PictureFolder(folder)
        self.period = period
        self.class_names = class_names
        self.image_format = image_format
        self._view: StepView | None = None
        self._waits = False

    def before_step(self) -> None:
        if self.period and self.trainer.iter % self.period == 0 and not self._waits:
            self._waits = True
            self.model.observers.append(self._keep)

    def after_step(self) -> None:
        if self._view is not None:
            self._draw(self._view)
            self._stop()

    def after_train(self) -> None:
        self._stop()

    def _keep(self, view: StepView) -> None:
        if view.samples:
            self._view = self._view or view

    def _stop(self) -> None:
        if self._waits:
            self.model.observers.remove(self._keep)
        self._view, self._waits = None, False

    def _draw(self, view: StepView) -> None:
        step = self.trainer.iter
        options = {"class_names": self.class_names, "image_format": self.image_format}
        picture = training_picture(view, title=f"step {step}", **options)
        self.trainer.storage.put_image("pseudo_boxes", picture.transpose(2, 0, 1))
        self.files.save(picture, f"step_{step:07d}.png")


class ValidationPictureHook(HookBase):
    """Draws the teacher's detections on a few test images, the same after every evaluation.

    Register it after the evaluation, on the main process alone.
    """

    def __init__(
        self,
        model: SoftTeacher,
        evaluation: Evaluation,
        folder: str,
        *,
        dataset: str,
        mapper: Callable[[dict], dict],
        count: int = 4,
        class_names: Sequence[str] = (),
        image_format: str = "BGR",
    ):
        """
        Args:
            model: not wrapped for the ranks.
            evaluation: of the run.
            folder: gets ``validation_0001234.png``, numbered by steps done; made when it is needed.
            dataset: a registered test dataset.
            mapper: of its loader.
            count: images, evenly spaced over the dataset; unreadable ones are left out.
            class_names, image_format: see :func:`.validation_figure`.
        """
        self.model = model
        self.files = PictureFolder(folder)
        self.evaluation = evaluation
        self.dataset = dataset
        self.mapper = mapper
        self.count = count
        self.class_names = class_names
        self.image_format = image_format
        self._dicts: list[dict] | None = None

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.evaluation.evaluated == done:
            self._draw(done)

    def _draw(self, done: int) -> None:
        if self._dicts is None:
            self._dicts = some_dicts(self.dataset, self.count)
        examples = detect_examples(self.model.teacher, self._dicts, self.mapper)
        if not examples:
            return
        options = {"class_names": self.class_names, "image_format": self.image_format}
        title = f"ground truth, and detections of the teacher after {done:,} steps"
        picture = validation_picture(examples, title=title, **options)
        self.trainer.storage.put_image("validation", picture.transpose(2, 0, 1))
        self.files.save(picture, f"validation_{done:07d}.png")
