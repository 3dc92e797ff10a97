"""Reading LazyConfig files, with every mistake reported in one line."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from detectron2.config import LazyConfig
from detectron2.utils.registry import locate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..distributed.device import usable_device
from ..modeling.families.base import DetectorFamily
from ..utils.checks import check_file
from ..utils.environment import naming_broken_packages
from ..utils.errors import ConfigError, did_you_mean, one_line, place_of
from .dumped_config import check_targets, load_dumped
from .settings import LAZY_ONLY, SETTINGS

__all__ = [
    "check_arguments",
    "check_keys",
    "check_sections",
    "family_in",
    "is_known",
    "load_config",
    "values_of",
]

ABSENT = object()


def load_config(config_file: str, overrides=()):
    """The config of a LazyConfig file, or its dump, with ``key=value ...`` overrides.

    Raises:
        ConfigError: for a file that cannot be run, an override of another form, an unknown key,
            or an interpolation that leads nowhere.
    """
    check_file("--config-file", config_file)
    try:
        cfg = LazyConfig.load(config_file) if config_file.endswith(".py") else _dumped(config_file)
    except ConfigError:
        raise
    except Exception as error:  # the file is a program
        raise ConfigError(_explain(error, config_file)) from error
    for place, override in enumerate(overrides):
        _check_form(override, overrides[place + 1 : place + 2])
        key = override.partition("=")[0]
        if not is_known(cfg, key):
            raise ConfigError(f"unknown config key {key}{did_you_mean(key, _keys(cfg))}")
    with naming_broken_packages():
        import hydra.core.override_parser.overrides_parser  # noqa: F401  an old one cannot
    try:
        cfg = LazyConfig.apply_overrides(cfg, list(overrides))
    except Exception as error:  # hydra's parser and omegaconf raise kinds of their own
        raise ConfigError(" ".join(str(error).split())) from error
    try:
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    check_sections(cfg, ["train"])
    device = SETTINGS["MODEL.DEVICE"]
    device.check(device.lazy, cfg.train.get("device"))
    cfg.train.device = usable_device(device.lazy, cfg.train.device)
    return cfg


def _dumped(config_file: str):
    cfg = load_dumped(config_file)
    for section in ("model", "dataloader.test"):
        check_sections(cfg, [section])
        check_targets(cfg, section)
    return cfg


def values_of(cfg, key: str) -> list[tuple[str, object]]:
    """(LazyConfig's key, value) of every place in a LazyConfig that a YAML key represents."""
    found = [(path, OmegaConf.select(cfg, path, default=ABSENT)) for path in SETTINGS[key].paths]
    return [(path, value) for path, value in found if value is not ABSENT]


def family_in(cfg) -> type[DetectorFamily]:
    """The family that a LazyConfig describes.

    Raises:
        ConfigError: it describes none.
    """
    target = OmegaConf.select(cfg, "model.family._target_")
    try:
        family = locate(target) if isinstance(target, str) else target
    except ImportError as error:
        raise ConfigError(f"model.family: {one_line(error)}") from error
    if not (isinstance(family, type) and issubclass(family, DetectorFamily)):
        raise ConfigError(
            "model.family must describe a DetectorFamily, as L(FasterRCNNFamily)(...)"
        )
    return family


def check_sections(cfg, sections: Sequence[str]) -> None:
    """Raises ConfigError unless the config has all of these sections."""
    for section in sections:
        if not OmegaConf.is_dict(OmegaConf.select(cfg, section)):
            raise ConfigError(f"the LazyConfig has no section '{section}'")


def check_keys(cfg) -> None:
    """Checks what has no counterpart in YAML: a complete ``train``, and LazyConfig's own keys.

    Raises:
        ConfigError: naming the key.
    """
    ours = [p for setting in SETTINGS.values() for p in setting.paths if p.startswith("train.")]
    for path in [*ours, "train.log_period"]:
        if OmegaConf.select(cfg, path, default=ABSENT) is ABSENT:
            raise ConfigError(f"the LazyConfig has no key {path}")
    for path, check in LAZY_ONLY.items():
        value = OmegaConf.select(cfg, path, default=ABSENT)
        if value is not ABSENT:
            check(path, value)


def check_arguments(cfg, section: str) -> None:
    """Raises ConfigError unless what a section describes can be called with its arguments."""
    node = OmegaConf.select(cfg, section)
    names = [name for name in node.keys() if name != "_target_"]
    try:
        _signature(node._target_).bind(**dict.fromkeys(names))
    except TypeError as error:
        raise ConfigError(f"{section}: {error}") from error


def _check_form(override: str, following: Sequence[str]) -> None:
    key, equals, _ = override.partition("=")
    if override.startswith("--"):
        raise ConfigError(f"{override} is among the overrides: put it before them")
    if not equals or not key:
        value = following[0] if following and "=" not in following[0] else "VALUE"
        raise ConfigError(
            f"override '{override}' is not of the form key=value, which a LazyConfig takes: write "
            f"{override or 'key'}={value}"
        )


def _explain(error: Exception, config_file: str) -> str:
    syntax = error.__cause__ if isinstance(error.__cause__, SyntaxError) else error
    if isinstance(syntax, SyntaxError) and syntax.lineno:
        # Detectron2 parses the text without telling its name, and names the file beside it.
        file = next((word for word in str(error).split() if word.endswith(".py")), config_file)
        return f"{file}:{syntax.lineno}: SyntaxError: {syntax.msg}"
    return f"{place_of(error, _is_of_a_config) or config_file}: {one_line(error)}"


def _is_of_a_config(frame: FrameType) -> bool:
    """Whether a frame runs in a config file, which is none of the modules that Python knows."""
    module = sys.modules.get(frame.f_globals.get("__name__"))
    return module is None or vars(module) is not frame.f_globals


def _called(target):
    return locate(target) if isinstance(target, str) else target


def _signature(target) -> inspect.Signature:
    return inspect.signature(_called(target))


def _parameters(target) -> Iterator[str]:
    """Names of arguments, those that ``**kwargs`` passes on to base classes, too."""
    called = _called(target)
    for function in inspect.getmro(called) if inspect.isclass(called) else [called]:
        parameters = inspect.signature(function).parameters
        yield from parameters
        if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            return


def is_known(cfg, key: str) -> bool:
    """Whether a key is there, or is an argument of the object that its parent describes."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent, default=None) if parent else cfg
    if not OmegaConf.is_dict(node):
        return OmegaConf.select(cfg, key, default=None) is not None
    if name in node.keys():
        return True
    target = node.get("_target_")
    return target is not None and name in _parameters(target)


def _keys(cfg, prefix="") -> Iterator[str]:
    for key in cfg.keys():
        yield prefix + key
        value = cfg._get_node(key)
        if OmegaConf.is_dict(value):
            yield from _keys(value, f"{prefix}{key}.")
