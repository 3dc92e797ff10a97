from .datasets import coco  # noqa: F401  makes its splits built-in datasets
