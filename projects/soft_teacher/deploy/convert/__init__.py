"""Checkpoints of mmdetection and microsoft/SoftTeacher as Detectron2's, with the same detections."""

from .conversion import Conversion, convert, write_conversion

__all__ = ["Conversion", "convert", "write_conversion"]
