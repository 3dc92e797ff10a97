"""Where the configs are, in a checkout and in an installed package."""

import os
from pathlib import Path

from detectron2.config import CfgNode, LazyConfig, get_cfg
from omegaconf import DictConfig

from ..config import add_soft_teacher_config
from ..utils.errors import ConfigError, did_you_mean

__all__ = ["config_names", "find_config", "get_config", "get_config_file"]

# A link to configs/ in a checkout.
CONFIGS = Path(__file__).resolve().parent / "configs"
PREFIX = "configs/"


def config_names() -> list[str]:
    """Names of all configs, those that others are made of included."""
    paths = (path for kind in ("yaml", "py") for path in CONFIGS.glob(f"*/**/*.{kind}"))
    return sorted(path.relative_to(CONFIGS).as_posix() for path in paths)


def get_config_file(config_path: str) -> str:
    """The absolute path of a config.

    Args:
        config_path: its name, such as ``coco/partial_180k.yaml``; with ``configs/`` before it, as
            in a checkout, it is the same.

    Raises:
        ConfigError: there is no such config.
    """
    name = config_path.removeprefix(PREFIX)
    names = config_names()
    if name not in names:
        raise ConfigError(f"there is no config '{config_path}'{did_you_mean(name, names)}")
    return str(CONFIGS / name)


def get_config(config_path: str) -> CfgNode | DictConfig:
    """A config by its name: a CfgNode of a .yaml, a LazyConfig of a .py.

    Raises:
        ConfigError: there is no such config.
    """
    file = get_config_file(config_path)
    if file.endswith(".py"):
        return LazyConfig.load(file)
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    cfg.merge_from_file(file, allow_unsafe=False)
    return cfg


def find_config(config_file: str) -> str:
    """A file or folder as it is, else the path of the config with that name.

    Raises:
        ConfigError: there is neither.
    """
    if os.path.exists(config_file):
        return config_file
    name, names = config_file.removeprefix(PREFIX), config_names()
    if name not in names:
        hint = did_you_mean(name, names)
        raise ConfigError(f"--config-file '{config_file}' does not exist{hint}")
    return str(CONFIGS / name)
