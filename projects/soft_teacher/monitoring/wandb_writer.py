"""Weights & Biases as an event writer. The package is imported only where it is asked for."""

import importlib
import logging
import os
from collections import defaultdict
from typing import Optional

import numpy as np
from detectron2.utils.events import EventWriter, get_event_storage

from ..utils.atomic import atomic_write
from ..utils.errors import ConfigError, one_line

__all__ = ["WandbWriter", "check_wandb"]

logger = logging.getLogger(__name__)

ID_FILE = "wandb_id.txt"
STEP = "iteration"


def check_wandb(project: str) -> None:
    """Raises ConfigError if Weights & Biases is asked for and not installed.

    Args:
        project: WandbWriter.project; empty if it is not asked for.
    """
    if project:
        _wandb()


def _wandb():
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ConfigError(
            "WandbWriter.project needs the package wandb: run 'pip install wandb', or "
            "leave the key empty"
        ) from error


class WandbWriter(EventWriter):
    """Sends scalars and pictures to one run of Weights & Biases, again to the same one on resume.

    In the list of writers it must stand before Detectron2's TensorBoard writer, which throws
    pictures away when it has written them.
    """

    def __init__(
        self,
        output_dir: str,
        *,
        project: str,
        name: str = "",
        resume: bool = False,
        window_size: int = 20,
    ):
        """Begins or resumes the run.

        Args:
            output_dir: folder of the training; the run's id is kept in its ``wandb_id.txt``.
            project: of Weights & Biases.
            name: of the run; empty lets Weights & Biases choose.
            resume: go on with the run of ``wandb_id.txt``, if there is one.
            window_size: steps that scalars are smoothed over, as in Detectron2's writers.

        Raises:
            ConfigError: the package is missing, or the run cannot be begun.
        """
        self._wandb = _wandb()
        self._window_size = window_size
        path = os.path.join(output_dir, ID_FILE)
        try:
            self._run = self._wandb.init(
                project=project,
                name=name or None,
                id=_read(path) if resume else None,
                resume="allow" if resume else None,
                dir=output_dir,
            )
        except Exception as error:  # the package's own kinds: no login, no network, no such run
            reason = one_line(error).rstrip(".")
            raise ConfigError(
                f"WandbWriter.project '{project}' cannot be written to: {reason}; run "
                "'wandb login', set WANDB_MODE=offline, or empty the key"
            ) from error
        try:
            with atomic_write(path) as file:
                file.write(f"{self._run.id}\n")
        except OSError as error:
            logger.error("%s (%s): --resume will begin another run", path, one_line(error))
        # A resumed training repeats steps, which the package's own counter would refuse.
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        self._last_scalar = self._last_picture = -1

    def write(self) -> None:
        steps = defaultdict(dict)
        storage = get_event_storage()
        smoothed = storage.latest_with_smoothing_hint(self._window_size)
        for name, (value, step) in smoothed.items():
            if step > self._last_scalar:
                steps[step][name] = value
        self._last_scalar = max([self._last_scalar, *steps])
        pictures = [p for p in storage._vis_data if p[2] > self._last_picture]
        for name, picture, step in pictures:
            self._last_picture = max(self._last_picture, step)
            steps[step][name] = self._wandb.Image(np.asarray(picture).transpose(1, 2, 0))
        for step in sorted(steps):
            self._run.log({**steps[step], STEP: step})

    def close(self) -> None:
        self._run.finish()


def _read(path: str) -> Optional[str]:
    if not os.path.isfile(path):
        return None
    with open(path) as file:
        return file.read().strip() or None
