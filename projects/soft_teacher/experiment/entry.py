"""One command line for both config languages."""

from . import lazy_entry, yaml_entry

__all__ = ["entry_of"]


def entry_of(config_file: str):
    """The module with ``load_config``, ``check_config``, ``dataset_names``, ``load_trained`` and
    ``main``.

    Args:
        config_file: a LazyConfig if it ends in .py, else YAML.
    """
    return lazy_entry if config_file.endswith(".py") else yaml_entry
