"""Reading YAML configs, with every mistake reported in one line."""

import ast
import re
from typing import Iterator, Sequence

import yaml
from detectron2.config import get_cfg

from ..config import add_soft_teacher_config
from ..distributed.device import usable_device
from ..utils.checks import check_file, shown
from ..utils.errors import ConfigError, did_you_mean, one_line

__all__ = ["load_config", "value_of"]

# What yacs says of a value whose type is not the default's.
MISMATCH = re.compile(
    r"Type mismatch \(<class '(?P<wanted>.*?)'> vs. <class '(?P<found>.*?)'>\) with values "
    r"\(.* vs. (?P<value>.*)\) for config key: (?P<key>\S+)"
)
KINDS = {
    "bool": "True or False",
    "float": "a number with a decimal point",
    "int": "a whole number",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
}


def load_config(config_file: str, opts=()):
    """The config of a YAML file with ``KEY VALUE ...`` overrides.

    Raises:
        ConfigError: for a file that cannot be read, an override of another form, an unknown key
            or a value of the wrong type.
    """
    cfg = get_cfg()
    add_soft_teacher_config(cfg)
    check_file("--config-file", config_file)
    known = cfg.clone()
    opts = list(map(str, opts))
    _check_pairs(opts, known)
    try:
        # YAML tags can run code; plain values are all a config needs.
        cfg.merge_from_file(config_file, allow_unsafe=False)
    except Exception as error:  # yacs and the YAML reader raise many kinds
        raise ConfigError(_explain(error, known, f"config '{config_file}'")) from error
    try:
        cfg.merge_from_list(_with_types(opts, cfg))
    except Exception as error:
        raise ConfigError(_explain(error, known, "the overrides")) from error
    for key, default in _leaves(known):
        if value_of(cfg, key) is None and default is not None:
            raise ConfigError(f"{key} has no value: it must be {KINDS[type(default).__name__]}")
    if cfg.MODEL.META_ARCHITECTURE != "SoftTeacher":  # a config of Detectron2's own
        cfg.SOFT_TEACHER.DETECTOR = cfg.MODEL.META_ARCHITECTURE
        cfg.MODEL.META_ARCHITECTURE = "SoftTeacher"
    cfg.MODEL.DEVICE = usable_device("MODEL.DEVICE", cfg.MODEL.DEVICE)
    return cfg


def value_of(cfg, key: str):
    """The value of a dotted key; None if the config has no such key."""
    for name in key.split("."):
        cfg = cfg.get(name) if hasattr(cfg, "get") else None
    return cfg


def _check_pairs(opts: Sequence[str], known) -> None:
    """Raises ConfigError unless the overrides are KEY VALUE ..."""
    for key, value in zip(opts[0::2], [*opts[1::2], None]):
        if key.startswith("--"):
            raise ConfigError(f"{key} is among the overrides: put it before {opts[0]}")
        name, equals, text = key.partition("=")
        if equals:
            raise ConfigError(
                f"a YAML config takes overrides as KEY VALUE: write '{name} {text}' for '{key}'"
            )
        if value is None or value_of(known, value) is not None:
            raise ConfigError(f"override {key} has no value: overrides are KEY VALUE ...")


def _with_types(opts: Sequence[str], cfg) -> list[str]:
    """Overrides as yacs takes them: it refuses 2 for 2.0, and a name for a list of one name."""
    found = list(opts)
    known = {key: value_of(cfg, key) for key in found[0::2]}
    for place in range(1, len(found), 2):
        key, text = found[place - 1], found[place]
        if type(known[key]) is float and type(_literal(text)) is int:
            found[place] = str(float(_literal(text)))
        elif isinstance(known[key], (tuple, list)) and isinstance(_literal(text), str):
            found[place] = str((_literal(text),))
    return found


def _literal(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _explain(error: Exception, known, where: str) -> str:
    message = error.args[0] if isinstance(error, KeyError) else error  # without its quotes
    message = " ".join(str(message).split())
    wrong_type = MISMATCH.search(message)
    if wrong_type:
        key, value = wrong_type["key"], shown(_literal(wrong_type["value"]))
        return f"{key} must be {KINDS.get(wrong_type['wanted'], 'a section')}, got {value}"
    if "Non-existent" in message:
        key = message.split(":", 1)[1].strip()
        keys = [name for name, _ in _leaves(known, nodes=True)]
        return f"unknown config key {key}{did_you_mean(key.upper(), keys)}"
    return f"{where} cannot be read: {_reason(error, message)}"


def _reason(error: Exception, message: str) -> str:
    if isinstance(error, RecursionError):
        return "its _BASE_ refers back to itself, or it is nested too deep"
    if isinstance(error, yaml.constructor.ConstructorError) and "tag" in message:
        return f"a value with a tag (!...) could run code, write it plainly; {message}"
    if isinstance(error, yaml.YAMLError):
        return message
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in UTF-8 ({message})"
    if isinstance(error, (AttributeError, TypeError)):
        return f"it, or its _BASE_, must hold KEY: VALUE ({message})"
    if isinstance(error, OSError):
        return f"{error.strerror} ({error.filename})"
    return one_line(error)


def _leaves(cfg, prefix="", *, nodes: bool = False) -> Iterator[tuple]:
    """(dotted key, value) of every value of a config, and of its sections if ``nodes``."""
    for key, value in cfg.items():
        if not hasattr(value, "items"):
            yield prefix + key, value
            continue
        if nodes:
            yield prefix + key, value
        yield from _leaves(value, f"{prefix}{key}.", nodes=nodes)
