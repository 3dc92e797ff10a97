from . import data  # noqa: F401  makes the digits built-in datasets
from .backbone import build_small_resnet_fpn_backbone, small_resnet_fpn

__all__ = ["build_small_resnet_fpn_backbone", "small_resnet_fpn"]
