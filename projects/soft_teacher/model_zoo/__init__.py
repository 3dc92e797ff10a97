"""The configs of this project by their names, in the manner of ``detectron2.model_zoo``::

cfg = model_zoo.get_config("coco/partial_180k.yaml")
"""

from .model_zoo import config_names, find_config, get_config, get_config_file

__all__ = ["config_names", "find_config", "get_config", "get_config_file"]
