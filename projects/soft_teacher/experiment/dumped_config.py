"""The config.yaml that a LazyConfig's run leaves behind, read without running anything.

Detectron2 reads it with YAML's unsafe loader, which runs whatever a file asks for. This loader
knows the few tags that a dump has, and :func:`check_targets` refuses to build anything that is no
part of a detector.
"""

from collections.abc import Iterator

import yaml
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import locate
from omegaconf import OmegaConf

from ..utils.errors import ConfigError, one_line

__all__ = ["check_targets", "is_dumped", "load_dumped"]

PARTS = ("soft_teacher.", "detectron2.", "torch.nn.")
TAG = "tag:yaml.org,2002:python/"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with the tags of a dump."""


def _tuple(loader: _Loader, node: yaml.Node) -> tuple:
    return tuple(loader.construct_sequence(node, deep=True))


def _shape(loader: _Loader, node: yaml.Node) -> ShapeSpec:
    return ShapeSpec(**loader.construct_mapping(node, deep=True))


def _name(loader: _Loader, suffix: str, node: yaml.Node):
    return _part(suffix)


_Loader.add_constructor(f"{TAG}tuple", _tuple)
_Loader.add_constructor(f"{TAG}object:{ShapeSpec.__module__}.ShapeSpec", _shape)
_Loader.add_multi_constructor(f"{TAG}name:", _name)


def is_dumped(config_file: str) -> bool:
    """Whether a YAML file describes a ``model`` by its parts, as a LazyConfig does."""
    try:
        with open(config_file, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False  # the reader of YAML configs says what is wrong
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    return "model" in keys


def load_dumped(config_file: str):
    """The LazyConfig of a dump.

    Raises:
        ConfigError: it cannot be read, or holds a tag that no dump needs.
    """
    try:
        with open(config_file, encoding="utf-8") as file:
            content = yaml.load(file, Loader=_Loader)
        return OmegaConf.create(content, flags={"allow_objects": True})
    except ConfigError:
        raise
    except Exception as error:  # YAML's reader, and what a damaged file makes of it
        raise ConfigError(f"config '{config_file}' cannot be read: {one_line(error)}") from error


def check_targets(cfg, section: str) -> None:
    """Raises ConfigError if a section would build what is no part of a detector."""
    for target in _targets(OmegaConf.to_container(OmegaConf.select(cfg, section))):
        _part(target)


def _targets(node) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    for value in node if isinstance(node, list) else ():
        yield from _targets(value)


def _part(name: str):
    """What a dotted name means; ConfigError unless it is defined in one of :data:`PARTS`."""
    try:
        found = locate(name) if name.startswith(PARTS) else None
    except Exception as error:  # a module that cannot be imported
        raise ConfigError(f"{name} cannot be found: {one_line(error)}") from error
    # Modules import others, which a dotted name reaches through them.
    if found is None or not str(getattr(found, "__module__", "")).startswith(PARTS):
        raise ConfigError(
            f"the config would build {name}, which is no part of soft_teacher, detectron2 or "
            "torch.nn: name the .py config that the run was started from instead"
        )
    return found
