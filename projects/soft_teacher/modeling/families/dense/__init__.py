from .family import RetinaNetFamily

__all__ = ["RetinaNetFamily"]
