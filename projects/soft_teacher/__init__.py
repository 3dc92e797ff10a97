"""Soft Teacher: end-to-end semi-supervised object detection on Detectron2."""

from .utils import quiet  # noqa: F401  isort: skip  before what it quiets
from .utils.environment import naming_broken_packages
from .utils.errors import ConfigError, ExportError, TrainingError

with naming_broken_packages():
    from . import demo, modeling  # noqa: F401  register datasets, networks and their parts
    from .config import add_soft_teacher_config

__version__ = "0.1.0"
__all__ = ["ConfigError", "ExportError", "TrainingError", "add_soft_teacher_config"]
