"""Checkpoints of mmdetection and microsoft/SoftTeacher, to detect the same in Detectron2."""

from .conversion import Conversion, convert, write_conversion

__all__ = ["Conversion", "convert", "write_conversion"]
