from .checkpoint import SoftTeacherCheckpointer
from .ema import EMAHook, ema_momentum, ema_update

__all__ = ["EMAHook", "SoftTeacherCheckpointer", "ema_momentum", "ema_update"]
