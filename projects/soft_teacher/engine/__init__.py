from .checkpoint import SoftTeacherCheckpointer
from .ema import EMAHook, ema_momentum, ema_update
from .trainer import SoftTeacherTrainer

__all__ = [
    "EMAHook",
    "SoftTeacherCheckpointer",
    "SoftTeacherTrainer",
    "ema_momentum",
    "ema_update",
]
