"""Checkpoints of mmdetection and microsoft/SoftTeacher, to detect the same in Detectron2."""

from .conversion import Conversion, convert, write_conversion
from .fitting import Fitted, fit, parts_of, write_fitted

__all__ = ["Conversion", "Fitted", "convert", "fit", "parts_of", "write_conversion", "write_fitted"]
