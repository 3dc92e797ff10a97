from .family import DenseFamily, FCOSFamily, RetinaNetFamily

__all__ = ["DenseFamily", "FCOSFamily", "RetinaNetFamily"]
