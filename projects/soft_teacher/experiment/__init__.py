from .trainer import SoftTeacherTrainer

__all__ = ["SoftTeacherTrainer"]
