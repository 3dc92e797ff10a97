"""What was trained at work: predictions, and files of them."""

from .predictor import Predictor

__all__ = ["Predictor"]
