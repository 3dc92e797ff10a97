"""Detectors for users who have neither this package nor, mostly, Detectron2."""

from .exporting import FORMATS, export
from .source import Source, source_of
from .views import sample_views

__all__ = ["FORMATS", "Source", "export", "sample_views", "source_of"]
