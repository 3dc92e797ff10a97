"""What was trained at work: predictions, exports, and detectors of other frameworks converted."""

from .predictor import Predictor

__all__ = ["Predictor"]
